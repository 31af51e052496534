"""Starts SeaweedFS with one bucket (KD_BUCKET) and one key pair, which the environment gives; data in /data.

`s3.py ready` ends well once the bucket is there, for a health check.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

DATA = Path("/data")
ADDRESS = "http://127.0.0.1:8333"


def answers(path: str) -> int:
    """The status that the server answers with; 0 for none."""
    try:
        with urllib.request.urlopen(f"{ADDRESS}/{path}", timeout=3) as answer:  # noqa: S310 -- loopback
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return int(error.code)
    except OSError:
        return 0


def main(bucket: str) -> int:
    """Run the server to its end."""
    keys = {"accessKey": os.environ["AWS_ACCESS_KEY_ID"], "secretKey": os.environ["AWS_SECRET_ACCESS_KEY"]}
    identity = {"name": "kd", "credentials": [keys], "actions": ["Admin"]}
    rules = Path("/tmp/s3.json")  # noqa: S108 -- the container's own
    rules.touch(mode=0o600)
    rules.write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    # Masters, volumes and filer on loopback: the S3 port alone checks keys.
    options = {"dir": DATA, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.ip.bind": "0.0.0.0", "s3.port": 8333}  # noqa: S104
    options |= {"s3.config": rules, "master.volumeSizeLimitMB": 256, "master.telemetry": "false", "volume.max": 200}
    options |= {"s3.port.iceberg": 0, "s3.port.lance": 0}
    server = subprocess.Popen(["weed", "server", *(f"-{name}={value}" for name, value in options.items()), "-s3"])
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    while server.poll() is None and not answers(""):
        time.sleep(0.5)
    while server.poll() is None and answers(bucket) == 404:
        subprocess.run(["weed", "shell"], input=f"s3.bucket.create -name {bucket}\n", text=True, check=False)
        time.sleep(1)
    return server.wait()


if __name__ == "__main__":
    name = os.environ.get("KD_BUCKET", "kd")
    sys.exit(main(name) if "ready" not in sys.argv else answers(name) not in (200, 403))
