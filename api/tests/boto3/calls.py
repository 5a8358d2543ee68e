"""Calls of one client, each held to botocore's model of the operation."""

from botocore.exceptions import ClientError

import model
from server import Server

# Operations whose errors do not say how a caller is refused; what stands before the API does.
UNMODELLED_REFUSAL = {"CreateStream", "ListStreams"}


class Calls:
    """For a test case that names its client in `service_name`."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.close)
        cls.keys = cls.server.admin_keys()
        cls.client = cls.server.client(cls.service_name, cls.keys)
        # Sends what the model does not allow.
        cls.raw = cls.server.client(cls.service_name, cls.keys, parameter_validation=False)
        cls.service = cls.client.meta.service_model
        cls.methods = {name: method for method, name in cls.client.meta.method_to_api_mapping.items()}

    def call(self, operation, client=None, **parameters):
        """Calls it, and holds the answer to the model."""
        answer = getattr(client or self.client, self.methods[operation])(**parameters)
        self.assertEqual(answer["ResponseMetadata"]["HTTPStatusCode"], 200)
        self.assertRegex(answer["ResponseMetadata"]["RequestId"], r"^[0-9a-f-]{36}$")
        output = self.service.operation_model(operation).output_shape
        self.assertEqual(list(model.faults(output, answer)), [], operation)
        return answer

    def refusal(self, operation, client=None, **parameters):
        """The name of the error that it answers, which has to be one of the operation's."""
        with self.assertRaises(ClientError) as raised:
            getattr(client or self.raw, self.methods[operation])(**parameters)
        error = raised.exception
        code = error.response["Error"]["Code"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        self.assertTrue(error.response["Error"]["Message"], f"{operation}: no message")
        self.assertIn("x-amzn-requestid", error.response["ResponseMetadata"]["HTTPHeaders"])
        if code == "AccessDeniedException" and operation in UNMODELLED_REFUSAL:
            return code
        known = model.statuses(self.service.operation_model(operation))
        self.assertIn(code, known, f"{operation} {parameters}")
        self.assertEqual(status, known[code], f"{operation} {code}")
        return code
