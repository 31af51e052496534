"""Ends well if a part of Airflow is healthy, as its API server knows: healthy.py scheduler|dag_processor|triggerer."""

import json
import sys
import urllib.request

ADDRESS = "http://airflow-api:8080/api/v2/monitor/health"

with urllib.request.urlopen(ADDRESS, timeout=5) as answer:
    sys.exit(json.load(answer)[sys.argv[1]]["status"] != "healthy")
