"""Makes the secrets of the stack on one machine, once: random words, one file each, in the folder that is named.

`stages/` holds what containers of stages get. The folder itself is closed to others; the files are not, since
containers read them as another user.
"""

import base64
import secrets
import sys
from pathlib import Path

folder = Path(sys.argv[1])
stages = folder / "stages"
stages.mkdir(parents=True, exist_ok=True)
folder.chmod(0o700)
password = secrets.token_hex(16)
database = f"postgresql+psycopg://kd:{password}@postgres:5432"
made = {
    "POSTGRES_PASSWORD": password,
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"{database}/airflow",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"{database}/airflow",
    "MLFLOW_BACKEND_STORE_URI": f"{database}/mlflow",
    "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
    "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "stages/AWS_ACCESS_KEY_ID": secrets.token_hex(10),
    "stages/AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
}
if not (folder / "POSTGRES_PASSWORD").exists():
    for name, value in made.items():
        (folder / name).write_text(value, encoding="utf-8")
