"""Uploads that are too large for memory, on their way from the browser to ``app.intake``."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler

from app.vault import spool


class PassingFileHandler(FileUploadHandler):
    """Puts what is uploaded into a file without a name, encrypted where what is stored is."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        """Begin one."""
        super().new_file(*args, **kwargs)
        # Closed with the request, as Django does with all uploads
        self.file = UploadedFile(
            spool.temporary(),
            self.file_name,
            self.content_type,
            0,
            self.charset,
            self.content_type_extra,
        )

    def receive_data_chunk(self, raw_data: bytes, _start: int) -> bytes | None:
        """Take some more."""
        self.file.write(raw_data)
        return None

    def file_complete(self, file_size: int) -> UploadedFile:
        """All of it is there."""
        self.file.seek(0)
        self.file.size = file_size
        return self.file

    def upload_interrupted(self) -> None:
        """The browser went away."""
        if getattr(self, "file", None):
            self.file.close()
