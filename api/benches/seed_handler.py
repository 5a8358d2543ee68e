"""What a serverless handler of `/ipc-video-metadata` does: the body is parsed, and each segment is one
put_item of boto3. Calls it for a while and prints what that came to, as JSON.

seed_handler.py ENDPOINT SEGMENTS_A_CALL SECONDS
"""

import json
import sys
import time

import boto3

TABLE = "seed-device-metadata"
NAMES = ("clientID", "deviceID", "streamName", "begTime", "endTime", "duration")


def handler(table, body):
    for segment in json.loads(body):
        table.put_item(Item={name: str(segment[name]) for name in NAMES})
    return {"statusCode": 200, "body": "{}"}


def body(call, segments):
    began = 1_763_803_800_000 + call * segments * 20_000
    starts = [began + place * 20_000 for place in range(segments)]
    named = {"clientID": "bench", "deviceID": "bench-0", "streamName": "main", "duration": "20"}
    return json.dumps(
        [named | {"begTime": str(start), "endTime": str(start + 20_000)} for start in starts]
    )


def main(endpoint, segments, seconds):
    dynamodb = boto3.resource(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
    )
    table = dynamodb.Table(TABLE)
    if TABLE not in [known.name for known in dynamodb.tables.all()]:
        keys = [("clientID", "HASH"), ("begTime", "RANGE")]
        table = dynamodb.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
            BillingMode="PAY_PER_REQUEST",
        )
        table.wait_until_exists()
    latencies = []
    began, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        asked = time.perf_counter()
        handler(table, body(len(latencies), segments))
        latencies.append((time.perf_counter() - asked) * 1e3)
    answer = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    print(json.dumps(answer | {"latencies_ms": latencies}))


main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
