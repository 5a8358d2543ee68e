"""Media read back as it was uploaded, as boto3 calls it: every way to begin, every bad value."""

import os
import re
import unittest

from recorded import Recorded, frames

TAGS = "AWS_KINESISVIDEO_"
# Of the last tag of a fragment that GetMedia answers.
LAST_TAG = (TAGS + "CONTINUATION_TOKEN").encode()


def numbers(payload):
    """The numbers of the fragments that an answer holds."""
    name = (TAGS + "FRAGMENT_NUMBER").encode()
    return [found.decode() for found in re.findall(name + rb"\x44\x87.(\d+)", payload, re.DOTALL)]


class MediaTest(Recorded, unittest.TestCase):
    """The recording's fragments, as they are listed."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        archived = cls.server.client("kinesis-video-archived-media", cls.keys)
        everything = {"StartTimestamp": 0, "EndTimestamp": 4_000_000_000}
        cls.selector = {
            "FragmentSelectorType": "PRODUCER_TIMESTAMP",
            "TimestampRange": everything,
        }
        listed = archived.list_fragments(**cls.name, FragmentSelector=cls.selector)
        cls.fragments = sorted(listed["Fragments"], key=lambda one: one["FragmentNumber"])
        cls.numbers = [one["FragmentNumber"] for one in cls.fragments]

    def check_footage(self, payload):
        """That it holds the pictures that were sent."""
        file = os.path.join(self.folder.name, "got.mkv")
        with open(file, "wb") as got:
            got.write(payload)
        copy = ["-c", "copy"]
        self.assertEqual(frames(file, *copy), frames(self.file, *copy))


class GetMediaTest(MediaTest):
    service_name = "kinesis-video-media"

    def read(self, selector, count):
        """So many fragments from where the selector says; the answer would go on."""
        answer = self.client.get_media(**self.name, StartSelector=selector)
        output = self.service.operation_model("GetMedia").output_shape
        self.assertEqual(set(answer) - {"ResponseMetadata"}, set(output.members))
        payload = b""
        with answer["Payload"] as raw:
            while payload.count(LAST_TAG) < count:
                payload += raw.read1(65_536)
        return payload

    def test_every_selector(self):
        times = [one["ServerTimestamp"] for one in self.fragments]
        starts = [one["ProducerTimestamp"] for one in self.fragments]
        table = [
            ({"StartSelectorType": "EARLIEST"}, 0),
            ({"StartSelectorType": "NOW"}, len(self.numbers) - 1),
            (
                {"StartSelectorType": "FRAGMENT_NUMBER", "AfterFragmentNumber": self.numbers[0]},
                1,
            ),
            (
                {
                    "StartSelectorType": "CONTINUATION_TOKEN",
                    "ContinuationToken": self.numbers[1],
                },
                2,
            ),
            ({"StartSelectorType": "SERVER_TIMESTAMP", "StartTimestamp": times[0]}, 0),
            ({"StartSelectorType": "PRODUCER_TIMESTAMP", "StartTimestamp": starts[2]}, 2),
        ]
        for selector, first in table:
            with self.subTest(selector):
                expected = self.numbers[first:]
                payload = self.read(selector, len(expected))
                self.assertEqual(numbers(payload), expected)
                if first == 0:
                    self.check_footage(payload)
                good = {**self.name, "StartSelector": selector}
                self.check_refused("GetMedia", good)


class FragmentsTest(MediaTest):
    service_name = "kinesis-video-archived-media"

    def test_fragments_are_listed_page_by_page(self):
        good = {**self.name, "MaxResults": 2, "FragmentSelector": self.selector}
        self.check_refused("ListFragments", good)
        found, page = [], self.call("ListFragments", **good)
        more = {**self.name, "MaxResults": 2, "NextToken": page["NextToken"]}
        self.check_refused("ListFragments", more)
        while True:
            found += page["Fragments"]
            self.assertLessEqual(len(page["Fragments"]), 2)
            if "NextToken" not in page:
                break
            page = self.call("ListFragments", **self.name, NextToken=page["NextToken"], MaxResults=2)
        self.assertEqual(found, self.fragments)
        lengths = sum(one["FragmentLengthInMilliseconds"] for one in found)
        self.assertEqual(lengths, 10_000)

        first, last = found[1]["ProducerTimestamp"], found[3]["ProducerTimestamp"]
        span = {"StartTimestamp": first, "EndTimestamp": last}
        selector = {**self.selector, "TimestampRange": span}
        page = self.call("ListFragments", **self.name, FragmentSelector=selector)
        self.assertEqual(page["Fragments"], self.fragments[1:4])

    def test_fragments_are_read_by_number(self):
        good = {**self.name, "Fragments": self.numbers}
        self.check_refused("GetMediaForFragmentList", good)
        answer = self.client.get_media_for_fragment_list(**good)
        payload = answer["Payload"].read()
        self.assertEqual(numbers(payload), self.numbers)
        self.check_footage(payload)
        for name in ("SERVER", "SERVER_SIDE", "PRODUCER", "PRODUCER_SIDE"):
            tag = (TAGS + name + "_TIMESTAMP").encode()
            self.assertEqual(payload.count(tag), len(self.numbers))

        gone = self.client.get_media_for_fragment_list(**self.name, Fragments=["7"])
        self.assertIn((TAGS + "EXCEPTION_ERROR_CODE").encode(), gone["Payload"].read())

