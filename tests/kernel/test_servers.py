"""The real servers that tests rely on behave as a test needs them to."""

import hashlib

import boto3
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError

from tests.servers import S3Server


def client(server: S3Server, secret_key: str) -> "boto3.client":
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore")
def test_the_s3_server_stores_reads_ranges_and_refuses_wrong_credentials(
    s3_server: S3Server,
) -> None:
    s3 = client(s3_server, s3_server.secret_key)
    s3.create_bucket(Bucket="first")
    body = bytes(range(256)) * 100
    put = s3.put_object(Bucket="first", Key="a/b", Body=body)
    assert put["ETag"].strip('"') == hashlib.md5(body).hexdigest()
    got = s3.get_object(Bucket="first", Key="a/b", Range="bytes=10-19")
    assert got["Body"].read() == body[10:20]
    got["Body"].close()
    with pytest.raises(ClientError):
        client(s3_server, "wrong").get_object(Bucket="first", Key="a/b")
    s3.close()
