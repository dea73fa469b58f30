"""Services of the peers: a bucket with photographs and overlays, and a table of results."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import boto3
import psycopg

TABLE = "CREATE TABLE IF NOT EXISTS peer_results (peer text, image text, grade int, probabilities real[], overlay text)"


@dataclass(frozen=True)
class Services:
    """Connections of one process."""

    s3: Any
    database: psycopg.Connection[Any]
    bucket: str


def connect() -> Services:
    """Connect as set by `BENCH_DATABASE`, `BENCH_BUCKET`, `BENCH_S3` and boto3's credentials."""
    client = boto3.client("s3", endpoint_url=os.environ["BENCH_S3"], region_name="us-east-1")
    return Services(client, psycopg.connect(os.environ["BENCH_DATABASE"], autocommit=True), os.environ["BENCH_BUCKET"])


def fetch(services: Services, key: str) -> bytes:
    """Read the bytes of a photograph."""
    return bytes(services.s3.get_object(Bucket=services.bucket, Key=key)["Body"].read())


def publish(services: Services, peer: str, key: str, png: bytes, probabilities: Sequence[float], grade: int) -> None:
    """Upload the overlay, then insert the row."""
    overlay = f"{peer}/{key}.png"
    services.s3.put_object(Bucket=services.bucket, Key=overlay, Body=png, ContentType="image/png")
    services.database.execute(
        "INSERT INTO peer_results VALUES (%s, %s, %s, %s, %s)",
        (peer, key, grade, [float(p) for p in probabilities], overlay),
    )
