"""A recording of ten seconds that a device has uploaded, and how what is played of it is held to it."""

import os
import subprocess
import tempfile

import model
from calls import Calls
from server import BINARY, PATIENCE_S


def frames(source, *options):
    """The digest of each picture, as it is shown; with `-c copy`, as it was coded."""
    command = ["ffmpeg", "-v", "error", "-i", source, "-map", "0:v", *options, "-f", "framemd5", "-"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    return [line.split(",")[-1].strip() for line in lines]


class Recorded(Calls):
    """For a test case that plays `file`: the stream's `name`, and the `extent` of its footage."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.file = os.path.join(cls.folder.name, "sent.mp4")
        pattern = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"]
        tone = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
        codecs = ["-t", "10", "-c:v", "libx264", "-g", "50", "-bf", "2", "-pix_fmt", "yuv420p"]
        subprocess.run(
            ["ffmpeg", "-v", "error", *pattern, *tone, *codecs, "-c:a", "aac", cls.file], check=True
        )
        token = cls.server.command("token", "--role", "manager").strip()
        subprocess.run(
            [BINARY, "camera", "--endpoint", cls.server.url, "--device", "cam", "--fast", cls.file],
            check=True,
            capture_output=True,
            env={"LOOKBACK_TOKEN": token},
            timeout=PATIENCE_S,
        )
        device = cls.server.graphql(
            "{ device(ref: {externalId: \"cam\"}) { stream { mediaStreamName earliest latest } } }"
        )["device"]
        stream = device["stream"]
        cls.name = {"StreamName": stream["mediaStreamName"]}
        cls.extent = {"StartTimestamp": stream["earliest"], "EndTimestamp": stream["latest"]}

    def check_refused(self, operation, good):
        """That every bad value and every unknown stream is refused by name."""
        shape = self.service.operation_model(operation).input_shape
        for where, bad in model.bad_inputs(shape, good):
            with self.subTest(operation, where=where):
                self.assertEqual(self.refusal(operation, **bad), "InvalidArgumentException")
        nobody = {**good, "StreamName": "nobody"}
        self.assertEqual(self.refusal(operation, **nobody), "ResourceNotFoundException")
        neither = {key: value for key, value in good.items() if key != "StreamName"}
        self.assertEqual(self.refusal(operation, **neither), "InvalidArgumentException")
