"""moto's server on ADDRESS PORT, fit for many requests at once.

One is answered at a time, as its own threads trip over each other; and tables are not copied item by
item, for a transaction once for each item that it writes, and for a query all that it finds. Neither
changes items in place where requests have no projections, and transactions no updates, as ours.
"""

import copy
import sys
import threading
from collections import defaultdict
from types import SimpleNamespace

from moto.dynamodb.models import table
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple


def kept(original, _):
    copied = copy.copy(original)
    copied.items = defaultdict(dict, {key: dict(items) for key, items in original.items.items()})
    return copied


table.Table.__deepcopy__ = kept
table.copy = SimpleNamespace(copy=copy.copy, deepcopy=lambda found: found)

answer = DomainDispatcherApplication(create_backend_app)
turn = threading.Lock()


def in_turn(environ, start_response):
    with turn:
        return answer(environ, start_response)


address, port = sys.argv[1:]
run_simple(address, int(port), in_turn, threaded=True)
