"""Playback of what was archived, as boto3 calls it: every operation with what is good and what is bad,
and what the answers lead to, played by ffmpeg."""

import os
import unittest

import model
from recorded import Recorded, frames

# Of other tests: they are read back there.
ELSEWHERE = {"GetMediaForFragmentList", "ListFragments"}
# The model allows no "/" in it, and every real answer has one.
UNMODELLED = "ContentType"


class ArchivedTest(Recorded, unittest.TestCase):
    service_name = "kinesis-video-archived-media"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.selector = {
            "FragmentSelectorType": "PRODUCER_TIMESTAMP",
            "TimestampRange": cls.extent,
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
            **self.extent,
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
            self.check_refused(operation, good)
            with self.subTest(operation):
                answer = getattr(self.client, self.methods[operation])(**good)
                output = self.service.operation_model(operation).output_shape
                modelled = {key: value for key, value in answer.items() if key != UNMODELLED}
                self.assertEqual(list(model.faults(output, modelled)), [])
            called.add(operation)
        self.assertEqual(called | ELSEWHERE, set(self.service.operation_names))

    def test_what_is_answered_plays_as_it_was_sent(self):
        sent = frames(self.file)
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
                    self.assertEqual(frames(url), sent)
        url = self.call(
            "GetDASHStreamingSessionURL", **session, DASHFragmentSelector=self.selector
        )["DASHStreamingSessionURL"]
        self.assertEqual(frames(url), sent)

        answer = self.client.get_clip(**self.name, ClipFragmentSelector=self.selector)
        self.assertEqual(answer["ContentType"], "video/mp4")
        clip = os.path.join(self.folder.name, "clip.mp4")
        with open(clip, "wb") as file:
            file.write(answer["Payload"].read())
        self.assertEqual(frames(clip), sent)

        pages = self.client.get_paginator("get_images").paginate(
            **self.name,
            **self.extent,
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
        session = {**self.name, "PlaybackMode": "ON_DEMAND"}
        for kind, expected in (
            ("PRODUCER_TIMESTAMP", "ResourceNotFoundException"),
            # By the service's clock it lies before all that is kept.
            ("SERVER_TIMESTAMP", "InvalidArgumentException"),
        ):
            before = {
                "FragmentSelectorType": kind,
                "TimestampRange": {"StartTimestamp": 1_000, "EndTimestamp": 2_000},
            }
            for operation, parameters in (
                ("GetHLSStreamingSessionURL", {**session, "HLSFragmentSelector": before}),
                ("GetDASHStreamingSessionURL", {**session, "DASHFragmentSelector": before}),
                ("GetClip", {**self.name, "ClipFragmentSelector": before}),
            ):
                with self.subTest(operation, kind=kind):
                    self.assertEqual(self.refusal(operation, **parameters), expected)
        control = self.server.client("kinesisvideo", self.keys)
        control.create_stream(StreamName="unkept", DataRetentionInHours=0)
        for operation, good in self.examples():
            with self.subTest(operation):
                unkept = {**good, "StreamName": "unkept"}
                self.assertEqual(self.refusal(operation, **unkept), "NoDataRetentionException")


if __name__ == "__main__":
    unittest.main()
