"""A server with cameras that have something to show, and schemathesis asking it as an administrator."""

import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

BINARY = os.environ["LOOKBACK_BINARY"]
HERE = pathlib.Path(__file__).parent
CAMERAS = 3
PATIENCE_S = 30

# Its own checks take a limit or a wrong argument for a fault; `answers` in hooks.py is in their place.
BUILT_IN = "not_a_server_error,positive_data_acceptance,negative_data_rejection,ignored_auth"

REGISTER = """mutation($input: RegisterDeviceInput!) { registerDevice(input: $input) {
  credential { token } userErrors { message } } }"""
SEGMENTS = """mutation($input: IngestSegmentsInput!) { ingestSegments(input: $input) {
  results { status } userErrors { message } } }"""
EVENTS = """mutation($input: IngestEventsInput!) { ingestEvents(input: $input) {
  results { status } userErrors { message } } }"""


def main(seconds):
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory, "lookback.toml")
        config.write_text("[rates]\nenabled = false\n")
        data = ["--data-dir", str(pathlib.Path(directory, "data"))]
        server = subprocess.Popen(
            [BINARY, "serve", "--listen", "127.0.0.1:0", "--config", str(config), *data],
            stdout=subprocess.PIPE,
            text=True,
            env={"LOOKBACK_LOG_FILTER": "warn"},
        )
        try:
            url = server.stdout.readline().split()[-1] + "/graphql"
            token = [BINARY, "token", "--role", "admin", "--ttl", "1h", *data]
            token = subprocess.run(token, check=True, capture_output=True, text=True).stdout.strip()
            for number in range(CAMERAS):
                record(url, token, f"camera-{number}")
            asked = fuzz(url, token, seconds, directory)
            assert server.poll() is None, "the server has ended"
            return asked
        finally:
            server.kill()
            server.wait()


def record(url, admin, external_id):
    """A camera, segments and events of it."""
    device = {"externalId": external_id, "name": external_id, "timeZone": "Europe/Berlin"}
    made = ask(url, admin, REGISTER, device)["registerDevice"]
    token = made["credential"]["token"]
    segments = [
        {"clientSegmentId": f"s{n}", "start": ago(600 + 20 * n), "end": ago(580 + 20 * n)}
        for n in range(5)
    ]
    events = [
        {"clientEventId": f"e{n}", "type": "MOTION", "start": ago(600 + 20 * n)} for n in range(5)
    ]
    ask(url, token, SEGMENTS, {"sentAt": ago(0), "segments": segments})
    ask(url, token, EVENTS, {"sentAt": ago(0), "events": events})


def ago(seconds):
    at = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=seconds)
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def ask(url, token, query, input):
    request = urllib.request.Request(
        url,
        data=json.dumps({"query": query, "variables": {"input": input}}).encode(),
        headers={"content-type": "application/json", "authorization": "Bearer " + token},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        answer = json.load(response)
    assert "errors" not in answer, answer
    return answer["data"]


def fuzz(url, token, seconds, directory):
    """Whether all was answered as the schema promises."""
    command = [sys.executable, "-B", "-m", "schemathesis.cli", "run", url, "--no-color"]
    command += ["--header", "Authorization: Bearer " + token]
    command += ["--max-time", str(seconds), "--phases", "fuzzing", "--max-failures", "10"]
    command += ["--exclude-checks", BUILT_IN, "--warnings", "off", "--no-shrink"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    return subprocess.run(command, cwd=directory, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
