"""Playback of what was archived, as boto3 calls it: every operation with what is good and what is bad,
and what the answers lead to, played by ffmpeg."""

import os
import subprocess
import tempfile
import unittest

import model
from calls import Calls
from server import BINARY, PATIENCE_S

# Of other tests: they are read back there.
ELSEWHERE = {"GetMediaForFragmentList", "ListFragments"}
# The model allows no "/" in it, and every real answer has one.
UNMODELLED = "ContentType"


def pictures(source):
    """The digest of each picture as it is shown."""
    command = ["ffmpeg", "-v", "error", "-i", source, "-map", "0:v", "-f", "framemd5", "-"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    return [line.split(",")[-1].strip() for line in lines]


class ArchivedTest(Calls, unittest.TestCase):
    service_name = "kinesis-video-archived-media"

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
        cls.range = {"StartTimestamp": stream["earliest"], "EndTimestamp": stream["latest"]}
        cls.selector = {
            "FragmentSelectorType": "PRODUCER_TIMESTAMP",
            "TimestampRange": cls.range,
        }

    def examples(self):
        """A good call of each operation."""
        session = {**self.name, "PlaybackMode": "ON_DEMAND", "Expires": 43_200}
        yield "GetHLSStreamingSessionURL", {
            **session,
            "HLSFragmentSelector": self.selector,
            "ContainerFormat": "FRAGMENTED_MP4",
            "DiscontinuityMode": "ON_DISCONTINUITY",
            "DisplayFragmentTimestamp": "ALWAYS",
            "MaxMediaPlaylistFragmentResults": 5_000,
        }
        yield "GetDASHStreamingSessionURL", {
            **session,
            "DASHFragmentSelector": self.selector,
            "DisplayFragmentTimestamp": "ALWAYS",
            "DisplayFragmentNumber": "ALWAYS",
            "MaxManifestFragmentResults": 5_000,
        }
        yield "GetClip", {**self.name, "ClipFragmentSelector": self.selector}
        images = {
            **self.name,
            **self.range,
            "ImageSelectorType": "PRODUCER_TIMESTAMP",
            "SamplingInterval": 1_000,
            "Format": "JPEG",
            "FormatConfig": {"JPEGQuality": "80"},
            "WidthPixels": 160,
            "HeightPixels": 90,
            "MaxResults": 4,
        }
        token = self.client.get_images(**images)["NextToken"]
        yield "GetImages", {**images, "NextToken": token}

    def test_every_operation_takes_what_is_good_and_names_what_is_bad(self):
        called = set()
        for operation, good in self.examples():
            shape = self.service.operation_model(operation).input_shape
            for where, bad in model.bad_inputs(shape, good):
                with self.subTest(operation, where=where):
                    self.assertEqual(self.refusal(operation, **bad), "InvalidArgumentException")
            nobody = {**good, "StreamName": "nobody"}
            self.assertEqual(self.refusal(operation, **nobody), "ResourceNotFoundException")
            neither = {key: value for key, value in good.items() if key != "StreamName"}
            self.assertEqual(self.refusal(operation, **neither), "InvalidArgumentException")
            with self.subTest(operation):
                answer = getattr(self.client, self.methods[operation])(**good)
                output = self.service.operation_model(operation).output_shape
                modelled = {key: value for key, value in answer.items() if key != UNMODELLED}
                self.assertEqual(list(model.faults(output, modelled)), [])
            called.add(operation)
        self.assertEqual(called | ELSEWHERE, set(self.service.operation_names))

    def test_what_is_answered_plays_as_it_was_sent(self):
        sent = pictures(self.file)
        self.assertEqual(len(sent), 250)
        session = {**self.name, "PlaybackMode": "ON_DEMAND"}
        for container in ("FRAGMENTED_MP4", "MPEG_TS"):
            for mode in ("ALWAYS", "NEVER", "ON_DISCONTINUITY"):
                with self.subTest(container, mode=mode):
                    url = self.call(
                        "GetHLSStreamingSessionURL",
                        **session,
                        HLSFragmentSelector=self.selector,
                        ContainerFormat=container,
                        DiscontinuityMode=mode,
                    )["HLSStreamingSessionURL"]
                    self.assertEqual(pictures(url), sent)
        url = self.call(
            "GetDASHStreamingSessionURL", **session, DASHFragmentSelector=self.selector
        )["DASHStreamingSessionURL"]
        self.assertEqual(pictures(url), sent)

        answer = self.client.get_clip(**self.name, ClipFragmentSelector=self.selector)
        self.assertEqual(answer["ContentType"], "video/mp4")
        clip = os.path.join(self.folder.name, "clip.mp4")
        with open(clip, "wb") as file:
            file.write(answer["Payload"].read())
        self.assertEqual(pictures(clip), sent)

        pages = self.client.get_paginator("get_images").paginate(
            **self.name,
            **self.range,
            ImageSelectorType="PRODUCER_TIMESTAMP",
            SamplingInterval=1_000,
            Format="PNG",
            PaginationConfig={"PageSize": 3},
        )
        images = [image for page in pages for image in page["Images"]]
        self.assertEqual(len(images), 10)
        for image in images:
            self.assertTrue(image["ImageContent"], image)

    def test_where_nothing_is_the_error_says_so(self):
        before = {
            "FragmentSelectorType": "PRODUCER_TIMESTAMP",
            "TimestampRange": {"StartTimestamp": 1_000, "EndTimestamp": 2_000},
        }
        session = {**self.name, "PlaybackMode": "ON_DEMAND"}
        for operation, parameters in (
            ("GetHLSStreamingSessionURL", {**session, "HLSFragmentSelector": before}),
            ("GetDASHStreamingSessionURL", {**session, "DASHFragmentSelector": before}),
            ("GetClip", {**self.name, "ClipFragmentSelector": before}),
        ):
            with self.subTest(operation):
                code = self.refusal(operation, **parameters)
                self.assertEqual(code, "ResourceNotFoundException")
        control = self.server.client("kinesisvideo", self.keys)
        control.create_stream(StreamName="unkept", DataRetentionInHours=0)
        for operation, good in self.examples():
            with self.subTest(operation):
                unkept = {**good, "StreamName": "unkept"}
                self.assertEqual(self.refusal(operation, **unkept), "NoDataRetentionException")


if __name__ == "__main__":
    unittest.main()
