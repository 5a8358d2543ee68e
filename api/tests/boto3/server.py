"""A running `lookback serve` with a data directory of its own, and boto3 clients for it."""

import json
import os
import subprocess
import tempfile
import urllib.request

import boto3
from botocore.config import Config

BINARY = os.environ["LOOKBACK_BINARY"]
REGION = "eu-central-1"

# What a test waits for at most, on a busy machine.
PATIENCE_S = 30


class Server:
    """Runs until it is closed."""

    def __init__(self, *flags):
        self.directory = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [BINARY, "serve", "--listen", "127.0.0.1:0", "--data-dir", self.directory.name, *flags],
            stdout=subprocess.PIPE,
            text=True,
            env={"LOOKBACK_LOG_FILTER": "warn"},
        )
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), line
        self.url = line.removeprefix("listening on ").strip()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.directory.cleanup()

    def command(self, *arguments):
        """What a command prints that works beside the server."""
        command = [BINARY, *arguments, "--data-dir", self.directory.name]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=PATIENCE_S
        ).stdout

    def admin_keys(self, account="default"):
        pair = json.loads(self.command("access-key", "--account", account))
        return pair["accessKeyId"], pair["secretAccessKey"]

    def client(self, service, keys, **config):
        """A client that signs with `keys` and asks once."""
        key_id, secret = keys
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=Config(
                retries={"max_attempts": 0}, read_timeout=PATIENCE_S, user_agent_extra="", **config
            ),
        )

    def graphql(self, query, **variables):
        """The data that an admin is answered."""
        token = self.command("token", "--role", "admin").strip()
        request = urllib.request.Request(
            self.url + "/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"content-type": "application/json", "authorization": "Bearer " + token},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def register(self, external_id, **more):
        """A device with an access key: its streams, the credential and the key pair."""
        input = {
            "externalId": external_id,
            "name": external_id,
            "timeZone": "UTC",
            "credential": "ACCESS_KEY",
            **more,
        }
        payload = self.graphql(
            """mutation($input: RegisterDeviceInput!) { registerDevice(input: $input) {
                 device { id streams { mediaStreamName } }
                 credential { credential { id kind } token accessKeyId secretAccessKey }
                 userErrors { message } } }""",
            input=input,
        )["registerDevice"]
        assert payload["userErrors"] == [], payload
        credential = payload["credential"]
        streams = [stream["mediaStreamName"] for stream in payload["device"]["streams"]]
        keys = credential["accessKeyId"], credential["secretAccessKey"]
        return payload["device"]["id"], streams, credential["credential"]["id"], keys
