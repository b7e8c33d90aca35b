"""A stand-in for Google Cloud Storage over HTTP: as much of its JSON interface as gcsfs, tensorstore and google-cloud-storage ask for.

Objects are in memory, with generations and preconditions, so that an exclusive creation is refused as the real store refuses it.
"""

import http.server
import itertools
import json
import re
import sys
import threading
import time
import urllib.parse
import uuid
from typing import Any


class Store:
    """The objects of all buckets: bucket/name -> (content, generation)."""

    def __init__(self):
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.uploads: dict[str, tuple[str, dict[str, str], bytes]] = {}
        self.generations = itertools.count(int(time.time() * 1e6))
        self.lock = threading.RLock()

    def put(self, name: str, content: bytes, query: dict[str, str]) -> tuple[int, Any]:
        with self.lock:
            wanted = query.get("ifGenerationMatch")
            if wanted is not None and int(wanted) != self.objects.get(name, (b"", 0))[1]:
                return 412, {}
            self.objects[name] = content, next(self.generations)
            return 200, self.described(name)

    def described(self, name: str) -> dict[str, Any]:
        content, generation = self.objects[name]
        bucket, _, key = name.partition("/")
        moment = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(generation / 1e6))
        return {
            "kind": "storage#object",
            "id": f"{name}/{generation}",
            "name": key,
            "bucket": bucket,
            "size": str(len(content)),
            "generation": str(generation),
            "metageneration": "1",
            "timeCreated": moment,
            "updated": moment,
            "etag": str(generation),
        }

    def listed(self, bucket: str, query: dict[str, str]) -> dict[str, Any]:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        items, folders = [], set()
        with self.lock:
            for name in sorted(name for name in self.objects if name.startswith(f"{bucket}/{prefix}")):
                key = name.partition("/")[2]
                if not query.get("startOffset", "") <= key or key >= query.get("endOffset", "\U0010ffff"):
                    continue
                head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
                if cut:
                    folders.add(prefix + head + delimiter)
                else:
                    items.append(self.described(name))
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(folders)}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    store: Store

    def do_GET(self):
        self._answer("GET")

    def do_POST(self):
        self._answer("POST")

    def do_PUT(self):
        self._answer("PUT")

    def do_DELETE(self):
        self._answer("DELETE")

    def log_message(self, *words):
        pass

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, method: str):
        body = self._body()
        status, content, headers = self.answer(method, self.path, dict(self.headers), body)
        if isinstance(content, dict):
            content, headers = json.dumps(content).encode(), {"Content-Type": "application/json", **headers}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes):
        path, _, line = target.partition("?")
        query, store = dict(urllib.parse.parse_qsl(line)), self.store
        if path.startswith("/batch/"):
            return self._batch(headers, body)
        if found := re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", path):
            return self._upload(method, found[1], query, headers, body)
        if found := re.fullmatch(r"/storage/v1/b/([^/]+)", path):
            return 200, {"kind": "storage#bucket", "name": found[1], "id": found[1], "location": "US"}, {}
        if found := re.fullmatch(r"/storage/v1/b/([^/]+)/o", path):
            return 200, store.listed(found[1], query), {}
        if found := re.fullmatch(r"/storage/v1/b/([^/]+)/o/([^/]+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/([^/]+)", path):
            source, goal = (urllib.parse.unquote(f"{found[i]}/{found[i + 1]}") for i in (1, 3))
            if source not in store.objects:
                return 404, {}, {}
            status, told = store.put(goal, store.objects[source][0], query)
            return status, {"done": True, "resource": told} if "rewriteTo" in path else told, {}
        if found := re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)", path):
            return self._object(method, urllib.parse.unquote(f"{found[1]}/{found[2]}"), query, headers)
        print("unknown request", method, target, file=sys.stderr, flush=True)
        return 404, {"error": {"code": 404, "message": "unknown request"}}, {}

    def _object(self, method: str, name: str, query: dict[str, str], headers: dict[str, str]):
        with self.store.lock:
            content, generation = self.store.objects.get(name, (b"", 0))
            if "ifGenerationMatch" in query and int(query["ifGenerationMatch"]) != generation:
                return 412, {}, {}
            if not generation:
                return 404, {"error": {"code": 404, "message": f"No such object: {name}"}}, {}
            if method == "DELETE":
                del self.store.objects[name]
                return 204, b"", {}
            if query.get("alt") != "media":
                return 200, self.store.described(name), {}
        if int(query.get("ifGenerationNotMatch", -1)) == generation:
            return 304, b"", {}
        told = {"x-goog-generation": str(generation), "Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("Range") or headers.get("range") or "")
        if not asked:
            return 200, content, told
        size = len(content)
        begin, end = (
            int(asked[1] or max(size - int(asked[2] or 0), 0)),
            int(asked[2] or size - 1) if asked[1] else size - 1,
        )
        if begin >= size:
            return 416, {}, {}
        end = min(end, size - 1)
        return 206, content[begin : end + 1], {**told, "Content-Range": f"bytes {begin}-{end}/{size}"}

    def _upload(self, method: str, bucket: str, query: dict[str, str], headers: dict[str, str], body: bytes):
        kind = query.get("uploadType")
        if "upload_id" in query:
            name, asked, before = self.store.uploads[query["upload_id"]]
            whole = before + body
            if headers.get("Content-Range", "").endswith("/*"):
                self.store.uploads[query["upload_id"]] = name, asked, whole
                return 308, b"", {"Range": f"bytes=0-{len(whole) - 1}"}
            return *self.store.put(name, whole, asked), {}
        if kind == "media":
            return *self.store.put(f"{bucket}/{query['name']}", body, query), {}
        if kind == "multipart":
            facts, content = _parts(headers["Content-Type"], body)
            return *self.store.put(f"{bucket}/{query.get('name') or json.loads(facts)['name']}", content, query), {}
        name, key = query.get("name") or json.loads(body)["name"], uuid.uuid4().hex
        self.store.uploads[key] = f"{bucket}/{name}", query, b""
        host = f"http://{self.headers['Host']}"
        return 200, b"", {"Location": f"{host}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={key}"}

    def _batch(self, headers: dict[str, str], body: bytes):
        answers = []
        for part in _parts(headers["Content-Type"], body):
            method, target, _ = part.split(b"\r\n", 1)[0].decode().split(" ")
            target = re.sub(r"^https?://[^/]+", "", target)
            status, content, _ = self.answer(method, target, {}, b"")
            text = content.decode() if isinstance(content, bytes) else json.dumps(content)
            answers.append(
                f"--batch\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n{text}\r\n"
            )
        return 200, ("".join(answers) + "--batch--").encode(), {"Content-Type": "multipart/mixed; boundary=batch"}


def _parts(kind: str, body: bytes) -> list[bytes]:
    """The contents of a multipart message, byte for byte."""
    boundary = re.search(r"boundary=\"?'?([^\"';]+)", kind)[1].encode()
    found = re.split(rb"\r?\n--" + re.escape(boundary), b"\n" + body)[1:-1]
    return [re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1] for part in found]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that goes away in the middle of an answer, as tensorstore does, is no error."""


def serve() -> http.server.ThreadingHTTPServer:
    """A server of an empty store, answering in threads of its own."""
    handler = type("Own", (Handler,), {"store": Store()})
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
