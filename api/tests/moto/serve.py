"""moto's server on ADDRESS PORT, one request after the other: its own threads trip over each other."""

import sys

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

address, port = sys.argv[1:]
run_simple(address, int(port), DomainDispatcherApplication(create_backend_app), threaded=False)
