"""A store of the test's own process in place of s3://: what fsspec asks a file system for, over a dictionary."""

import hashlib
import io
from typing import ClassVar

from fsspec import AbstractFileSystem


class FakeS3(AbstractFileSystem):
    """Objects by bucket/name; folders are what names begin with, and exist while there is such a name."""

    protocol = ("s3",)
    objects: ClassVar[dict[str, bytes]] = {}

    def info(self, path, **options):
        path = self._strip_protocol(path)
        if path in self.objects:
            content = self.objects[path]
            tag = hashlib.sha256(content).hexdigest()
            return {"name": path, "size": len(content), "type": "file", "etag": tag}
        if any(name.startswith(f"{path}/") for name in self.objects):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path, detail=True, **options):
        path = self._strip_protocol(path)
        below = [name.removeprefix(f"{path}/") for name in self.objects if name.startswith(f"{path}/")]
        names = sorted({f"{path}/{name.split('/')[0]}" for name in below}) or [self.info(path)["name"]]
        return [self.info(name) for name in names] if detail else names

    def _open(self, path, mode="rb", **options):
        path = self._strip_protocol(path)
        if mode == "rb":
            self.info(path)
            return io.BytesIO(self.objects[path])
        return _Upload(self.objects, path)

    def pipe_file(self, path, value, mode="overwrite", **options):
        path = self._strip_protocol(path)
        if mode == "create" and path in self.objects:
            raise FileExistsError(path)
        self.objects[path] = bytes(value)

    def rm_file(self, path):
        self.info(path)
        del self.objects[self._strip_protocol(path)]

    _rm = rm_file

    def cp_file(self, path1, path2, **options):
        self.objects[self._strip_protocol(path2)] = self.objects[self._strip_protocol(path1)]


class _Upload(io.BytesIO):
    """Bytes that become an object when they are closed."""

    def __init__(self, objects: dict[str, bytes], name: str):
        super().__init__()
        self._objects, self._name = objects, name

    def close(self):
        if not self.closed:
            self._objects[self._name] = self.getvalue()
        super().close()
