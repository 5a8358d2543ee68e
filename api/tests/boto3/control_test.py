"""The control plane, as boto3 calls it."""

import json
import unittest
import urllib.error
import urllib.request

from botocore.exceptions import ClientError

import model
from calls import Calls
from server import Server

UNSUPPORTED = {
    "CreateSignalingChannel",
    "DeleteEdgeConfiguration",
    "DeleteSignalingChannel",
    "DescribeEdgeConfiguration",
    "DescribeMappedResourceConfiguration",
    "DescribeMediaStorageConfiguration",
    "DescribeSignalingChannel",
    "GetSignalingChannelEndpoint",
    "ListEdgeAgentConfigurations",
    "ListSignalingChannels",
    "StartEdgeConfigurationUpdate",
    "UpdateMediaStorageConfiguration",
    "UpdateSignalingChannel",
}

IMAGES = {
    "Status": "ENABLED",
    "ImageSelectorType": "SERVER_TIMESTAMP",
    "DestinationConfig": {"Uri": "s3://bucket/prefix", "DestinationRegion": "eu-central-1"},
    "SamplingInterval": 200,
    "Format": "JPEG",
    "FormatConfig": {"JPEGQuality": "80"},
    "WidthPixels": 3840,
    "HeightPixels": 2160,
}
NOTIFICATION = {
    "Status": "ENABLED",
    "DestinationConfig": {"Uri": "arn:aws:sns:eu-central-1:123456789012:topic"},
}


class ControlTest(Calls, unittest.TestCase):
    service_name = "kinesisvideo"

    def create(self, name, **more):
        parameters = {"DataRetentionInHours": 24, **more}
        arn = self.call("CreateStream", StreamName=name, **parameters)["StreamARN"]
        self.addCleanup(self.delete_quietly, arn)
        return arn

    def delete_quietly(self, arn):
        try:
            self.client.delete_stream(StreamARN=arn)
        except self.client.exceptions.ResourceNotFoundException:
            pass

    def info(self, name):
        return self.call("DescribeStream", StreamName=name)["StreamInfo"]

    def examples(self):
        """A good call of each operation, in an order in which they can be made."""
        arn = self.call(
            "CreateStream",
            StreamName="example",
            DeviceName="device",
            MediaType="video/h264,audio/aac",
            KmsKeyId="alias/key",
            DataRetentionInHours=2,
            Tags={"site": "lab"},
            StreamStorageConfiguration={"DefaultStorageTier": "HOT"},
        )["StreamARN"]
        self.addCleanup(self.delete_quietly, arn)
        name = {"StreamName": "example"}

        def version():
            return {"CurrentVersion": self.info("example")["Version"]}

        def changed(operation, hours):
            return {**name, **version(), "Operation": operation, "DataRetentionChangeInHours": hours}

        other = {
            "DeviceName": "device",
            "MediaType": "video/h264",
            "KmsKeyId": "alias/key",
            "DataRetentionInHours": 0,
            "Tags": {"site": "lab"},
            "StreamStorageConfiguration": {"DefaultStorageTier": "WARM"},
        }
        self.addCleanup(lambda: self.delete_quietly(self.info("other")["StreamARN"]))
        tags = {"Tags": {"a": "b", "c": ""}}
        keys = {"TagKeyList": ["a"]}
        token = {"NextToken": ""}
        resource = {"ResourceARN": arn}
        storage = {"StreamStorageConfiguration": {"DefaultStorageTier": "WARM"}}
        yield "CreateStream", {"StreamName": "other", **other}
        yield "DescribeStream", name
        yield "DescribeStream", {"StreamARN": arn}
        yield "ListStreams", {
            "MaxResults": 10_000,
            "StreamNameCondition": {
                "ComparisonOperator": "BEGINS_WITH",
                "ComparisonValue": "exam",
            },
            **token,
        }
        yield "UpdateStream", {**name, **version(), "DeviceName": "x", "MediaType": "video/h265"}
        yield "UpdateDataRetention", changed("INCREASE_DATA_RETENTION", 1)
        yield "UpdateDataRetention", changed("DECREASE_DATA_RETENTION", 1)
        for api in self.service.shape_for("APIName").enum:
            yield "GetDataEndpoint", {**name, "APIName": api}
        yield "TagStream", {**name, **tags}
        yield "ListTagsForStream", {**name, **token}
        yield "UntagStream", {**name, **keys}
        yield "TagResource", {**resource, "Tags": [{"Key": "k", "Value": "v"}]}
        yield "ListTagsForResource", {**resource, **token}
        yield "UntagResource", {**resource, **keys}
        for operation in ("ImageGeneration", "Notification", "StreamStorage"):
            yield f"Describe{operation}Configuration", name
        yield "UpdateImageGenerationConfiguration", {
            **name,
            "ImageGenerationConfiguration": IMAGES,
        }
        yield "UpdateNotificationConfiguration", {**name, "NotificationConfiguration": NOTIFICATION}
        yield "UpdateStreamStorageConfiguration", {**name, **version(), **storage}
        for operation in ("ImageGeneration", "Notification", "StreamStorage"):
            yield f"Describe{operation}Configuration", {"StreamARN": arn}
        yield "DeleteStream", {"StreamARN": arn, **version()}

    def test_every_operation_takes_what_is_good_and_names_what_is_bad(self):
        called = set()
        for operation, good in self.examples():
            shape = self.service.operation_model(operation).input_shape
            for where, bad in model.bad_inputs(shape, good):
                with self.subTest(operation, where=where):
                    code = self.refusal(operation, **bad)
                    many_tags = where[-2:] == ("Tags", "too many")
                    names = {"InvalidArgumentException"}
                    if many_tags:
                        names.add("TagsPerResourceExceededLimitException")
                    self.assertIn(code, names)
            if "StreamName" in shape.members and "StreamName" in good and operation != "CreateStream":
                with self.subTest(operation, where="no stream"):
                    nobody = {k: v for k, v in good.items() if k != "StreamName"}
                    self.assertEqual(self.refusal(operation, **nobody), "InvalidArgumentException")
                    nobody["StreamName"] = "nobody"
                    self.assertEqual(self.refusal(operation, **nobody), "ResourceNotFoundException")
            with self.subTest(operation):
                self.call(operation, **good)
            called.add(operation)
        self.assertEqual(called | UNSUPPORTED, set(self.service.operation_names))

    def test_what_is_not_there_is_said_to_be_unsupported(self):
        for operation in sorted(UNSUPPORTED):
            with self.subTest(operation), self.assertRaises(ClientError) as raised:
                getattr(self.raw, self.methods[operation])()
            error = raised.exception.response
            self.assertEqual(error["Error"]["Code"], "UnsupportedOperationException")
            self.assertEqual(error["ResponseMetadata"]["HTTPStatusCode"], 400)

    def test_what_is_made_is_described(self):
        arn = self.create(
            "made", DeviceName="d", MediaType="video/h264", KmsKeyId="k", DataRetentionInHours=87_600
        )
        info = self.info("made")
        self.assertEqual(self.call("DescribeStream", StreamARN=arn)["StreamInfo"], info)
        self.assertEqual(arn, info["StreamARN"])
        self.assertEqual(int(arn.rpartition("/")[2]), round(info["CreationTime"].timestamp() * 1000))
        expected = {
            "StreamName": "made",
            "DeviceName": "d",
            "MediaType": "video/h264",
            "KmsKeyId": "k",
            "DataRetentionInHours": 87_600,
            "Status": "ACTIVE",
        }
        self.assertEqual(expected, {name: info[name] for name in expected})
        self.assertEqual(self.refusal("CreateStream", StreamName="made"), "ResourceInUseException")
        too_long = {"StreamName": "longer", "DataRetentionInHours": 87_601}
        self.assertEqual(self.refusal("CreateStream", **too_long), "InvalidArgumentException")
        self.create("x" * 256)

    def test_a_change_is_of_the_version_that_was_seen(self):
        self.create("versions")
        seen = {self.info("versions")["Version"]}
        stream = {"StreamName": "versions"}
        storage = {"StreamStorageConfiguration": {"DefaultStorageTier": "WARM"}}
        changes = [
            ("UpdateStream", {"DeviceName": "new"}),
            ("UpdateStream", {}),
            (
                "UpdateDataRetention",
                {"Operation": "INCREASE_DATA_RETENTION", "DataRetentionChangeInHours": 24},
            ),
            ("UpdateStreamStorageConfiguration", storage),
        ]
        for operation, change in changes:
            version = self.info("versions")["Version"]
            self.call(operation, **stream, **change, CurrentVersion=version)
            stale = self.refusal(operation, **stream, **change, CurrentVersion=version)
            self.assertEqual(stale, "VersionMismatchException", operation)
            seen.add(self.info("versions")["Version"])
        self.assertEqual(len(seen), len(changes) + 1)
        info = self.info("versions")
        self.assertEqual((info["DeviceName"], info["DataRetentionInHours"]), ("new", 48))
        stale = self.refusal("DeleteStream", StreamARN=info["StreamARN"], CurrentVersion="abc")
        self.assertEqual(stale, "VersionMismatchException")

    def test_retention_stays_within_its_bounds(self):
        self.create("kept", DataRetentionInHours=1)

        def change(operation, hours):
            version = self.info("kept")["Version"]
            return {
                "StreamName": "kept",
                "CurrentVersion": version,
                "Operation": operation,
                "DataRetentionChangeInHours": hours,
            }

        for operation, hours, kept in (
            ("DECREASE_DATA_RETENTION", 2, None),
            ("INCREASE_DATA_RETENTION", 87_600, None),
            ("INCREASE_DATA_RETENTION", 87_599, 87_600),
            ("DECREASE_DATA_RETENTION", 87_600, 0),
        ):
            if kept is None:
                code = self.refusal("UpdateDataRetention", **change(operation, hours))
                self.assertEqual(code, "InvalidArgumentException")
            else:
                self.call("UpdateDataRetention", **change(operation, hours))
                self.assertEqual(self.info("kept")["DataRetentionInHours"], kept)
        for operation, configuration in (
            ("UpdateImageGenerationConfiguration", {"ImageGenerationConfiguration": IMAGES}),
            ("UpdateNotificationConfiguration", {"NotificationConfiguration": NOTIFICATION}),
        ):
            code = self.refusal(operation, StreamName="kept", **configuration)
            self.assertEqual(code, "NoDataRetentionException")

    def test_streams_are_listed_by_page_and_by_prefix(self):
        names = [f"list-{n:02}" for n in range(5)]
        for name in names:
            self.create(name)
        self.create("listed-not")
        condition = {"ComparisonOperator": "BEGINS_WITH", "ComparisonValue": "list-"}
        for size in (1, 2, 5, 6):
            pages = self.client.get_paginator("list_streams").paginate(
                StreamNameCondition=condition, PaginationConfig={"PageSize": size}
            )
            found = [info["StreamName"] for page in pages for info in page["StreamInfoList"]]
            self.assertEqual(found, names, size)
        infos = self.call("ListStreams", StreamNameCondition=condition)["StreamInfoList"]
        self.assertEqual(infos, [self.info(name) for name in names])
        code = self.refusal("ListStreams", NextToken="bm8vbmFtZQ==")
        self.assertEqual(code, "InvalidArgumentException")

    def test_tags_come_and_go(self):
        arn = self.create("tagged", Tags={"a": "1"})

        def tags():
            by_name = self.call("ListTagsForStream", StreamName="tagged")["Tags"]
            by_resource = self.call("ListTagsForResource", ResourceARN=arn)["Tags"]
            self.assertEqual(by_name, by_resource)
            return by_name

        self.call("TagStream", StreamARN=arn, Tags={"a": "2", "ключ": "b c"})
        self.call("TagResource", ResourceARN=arn, Tags=[{"Key": "d", "Value": ""}])
        self.assertEqual(tags(), {"a": "2", "ключ": "b c", "d": ""})
        self.call("UntagStream", StreamName="tagged", TagKeyList=["a", "none"])
        self.call("UntagResource", ResourceARN=arn, TagKeyList=["d"])
        self.assertEqual(tags(), {"ключ": "b c"})
        self.call("TagStream", StreamName="tagged", Tags={f"k{n}": "v" for n in range(49)})
        code = self.refusal("TagStream", StreamName="tagged", Tags={"more": ""})
        self.assertEqual(code, "TagsPerResourceExceededLimitException")
        self.assertEqual(len(tags()), 50)
        channel = arn.replace(":stream/", ":channel/")
        code = self.refusal("ListTagsForResource", ResourceARN=channel)
        self.assertEqual(code, "ResourceNotFoundException")

    def test_configurations_are_read_back_and_taken_away(self):
        self.create("configured")
        stream = {"StreamName": "configured"}
        for kind, configuration in (("ImageGeneration", IMAGES), ("Notification", NOTIFICATION)):
            member = kind + "Configuration"
            self.assertNotIn(member, self.call(f"Describe{member}", **stream))
            self.call(f"Update{member}", **stream, **{member: configuration})
            self.assertEqual(self.call(f"Describe{member}", **stream)[member], configuration)
            self.call(f"Update{member}", **stream)
            self.assertNotIn(member, self.call(f"Describe{member}", **stream))
        for change in (
            {"SamplingInterval": 199},
            {"FormatConfig": {"JPEGQuality": "0"}},
            {"FormatConfig": {"JPEGQuality": "101"}},
            {"Format": "PNG"},
        ):
            bad = {**IMAGES, **change}
            code = self.refusal(
                "UpdateImageGenerationConfiguration", **stream, ImageGenerationConfiguration=bad
            )
            self.assertEqual(code, "InvalidArgumentException", change)

    def test_what_is_deleted_is_gone_and_may_come_again(self):
        first = self.create("again")
        self.call("DeleteStream", StreamARN=first, CurrentVersion=self.info("again")["Version"])
        for parameters in ({"StreamName": "again"}, {"StreamARN": first}):
            code = self.refusal("DescribeStream", **parameters)
            self.assertEqual(code, "ResourceNotFoundException")
        self.assertEqual(self.refusal("DeleteStream", StreamARN=first), "ResourceNotFoundException")
        second = self.create("again")
        self.assertNotEqual(first, second)
        code = self.refusal("DescribeStream", StreamARN=first)
        self.assertEqual(code, "ResourceNotFoundException")

    def test_a_stream_of_no_device_is_found_and_adopted(self):
        arn = self.create("orphan", DeviceName="kept")
        found = """query($ref: DeviceRef!) { device(ref: $ref) {
            id name state streams { name mediaStreamName } } }"""
        device = self.server.graphql(found, ref={"externalId": "orphan"})["device"]
        self.assertEqual((device["name"], device["state"]), ("orphan", "PROVISIONED"))
        stream = {"name": "main", "mediaStreamName": "orphan"}
        self.assertEqual(device["streams"], [stream])

        owner, streams, _, _ = self.server.register("owner", mediaStreamNames=["orphan"])
        self.assertEqual(streams, ["orphan"])
        gone = self.server.graphql(found, ref={"externalId": "orphan"})["device"]
        self.assertIsNone(gone)
        adopted = self.server.graphql(found, ref={"id": owner})["device"]
        self.assertEqual(adopted["streams"], [stream])
        info = self.call("DescribeStream", StreamARN=arn)["StreamInfo"]
        self.assertEqual((info["DeviceName"], info["DataRetentionInHours"]), ("kept", 7 * 24))

    def test_a_device_does_what_a_producer_does_and_no_more(self):
        _, [name], credential, keys = self.server.register("producer")
        other = self.create("not-mine")
        device = self.server.client("kinesisvideo", keys)
        own = self.info(name)
        self.assertEqual(self.call("DescribeStream", device, StreamName=name)["StreamInfo"], own)
        self.assertEqual(own["DataRetentionInHours"], 7 * 24)
        made = self.call("CreateStream", device, StreamName=name, DataRetentionInHours=2)
        self.assertEqual(made["StreamARN"], own["StreamARN"])
        self.call("TagStream", device, StreamARN=own["StreamARN"], Tags={"by": "device"})
        endpoint = self.call("GetDataEndpoint", device, StreamName=name, APIName="PUT_MEDIA")
        self.assertEqual(endpoint["DataEndpoint"], self.server.url)

        stream = {"StreamName": name}
        version = {"CurrentVersion": own["Version"]}
        resource = {"ResourceARN": own["StreamARN"]}
        refused = {
            "ListStreams": {},
            "DeleteStream": {"StreamARN": own["StreamARN"]},
            "UpdateStream": {**stream, **version},
            "UpdateDataRetention": {
                **stream,
                **version,
                "Operation": "INCREASE_DATA_RETENTION",
                "DataRetentionChangeInHours": 1,
            },
            "GetDataEndpoint": {**stream, "APIName": "GET_MEDIA"},
            "UntagStream": {**stream, "TagKeyList": ["by"]},
            "ListTagsForStream": stream,
            "TagResource": {**resource, "Tags": [{"Key": "k", "Value": "v"}]},
            "UntagResource": {**resource, "TagKeyList": ["by"]},
            "ListTagsForResource": resource,
            "DescribeImageGenerationConfiguration": stream,
            "UpdateImageGenerationConfiguration": stream,
            "DescribeNotificationConfiguration": stream,
            "UpdateNotificationConfiguration": stream,
            "DescribeStreamStorageConfiguration": stream,
            "UpdateStreamStorageConfiguration": {
                **stream,
                **version,
                "StreamStorageConfiguration": {"DefaultStorageTier": "HOT"},
            },
            "CreateStream": {"StreamName": "new"},
        }
        for operation, parameters in refused.items():
            with self.subTest(operation):
                code = self.refusal(operation, device, **parameters)
                self.assertIn(code, {"NotAuthorizedException", "AccessDeniedException"})
        self.assertEqual(
            self.refusal("DescribeStream", device, StreamARN=other), "ResourceNotFoundException"
        )

        revoke = "mutation($id: ID!) { revokeDeviceCredential(id: $id) { userErrors { code } } }"
        self.server.graphql(revoke, id=credential)
        with self.assertRaises(ClientError) as raised:
            device.describe_stream(StreamName=name)
        self.assertEqual(raised.exception.response["Error"]["Code"], "UnrecognizedClientException")

    def test_nothing_crosses_the_border_of_an_account(self):
        arn = self.create("border")
        elsewhere = self.server.client("kinesisvideo", self.server.admin_keys("elsewhere"))
        code = self.refusal("DescribeStream", elsewhere, StreamARN=arn)
        self.assertEqual(code, "ResourceNotFoundException")
        self.assertEqual(self.call("ListStreams", elsewhere)["StreamInfoList"], [])

    def test_a_caller_that_is_not_known_is_refused_before_the_api(self):
        key_id, secret = self.keys
        for keys, name in (
            ((key_id, secret[::-1]), "InvalidSignatureException"),
            (("AKIAIOSFODNN7EXAMPLE", secret), "UnrecognizedClientException"),
            ((key_id[:-1] + ("0" if key_id[-1] != "0" else "1"), secret), "InvalidSignatureException"),
        ):
            with self.assertRaises(ClientError) as raised:
                self.server.client("kinesisvideo", keys).list_streams()
            error = raised.exception.response
            self.assertEqual(error["Error"]["Code"], name)
            self.assertEqual(error["ResponseMetadata"]["HTTPStatusCode"], 403)
        request = urllib.request.Request(self.server.url + "/listStreams", data=b"{}")
        with self.assertRaises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(request)
        with raised.exception as answer:
            self.assertEqual(answer.code, 403)
            self.assertEqual(json.load(answer), {"message": "Missing Authentication Token"})


class PublicUrlTest(unittest.TestCase):
    def test_the_data_endpoint_follows_it(self):
        server = Server("--public-url", "https://cameras.example")
        self.addCleanup(server.close)
        client = server.client("kinesisvideo", server.admin_keys())
        client.create_stream(StreamName="cam")
        for api in ("PUT_MEDIA", "GET_CLIP"):
            answer = client.get_data_endpoint(StreamName="cam", APIName=api)
            self.assertEqual(answer["DataEndpoint"], "https://cameras.example")


if __name__ == "__main__":
    unittest.main()
