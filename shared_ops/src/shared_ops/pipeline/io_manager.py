"""Stores the outputs of ops as JSON: references are small, and JSON can be read by a person and runs no code."""

from typing import Any

from dagster import InitResourceContext, InputContext, OutputContext, UPathIOManager, io_manager
from pydantic import BaseModel
from upath import UPath


class JsonIOManager(UPathIOManager):
    """Stores Pydantic models below `base_path`, one file per run and output."""

    extension = ".json"

    def dump_to_path(self, context: OutputContext, obj: BaseModel, path: UPath) -> None:
        """Write one output."""
        path.write_text(obj.model_dump_json(indent=2))

    def load_from_path(self, context: InputContext, path: UPath) -> Any:
        """Read an input as the type that the op declares."""
        declared = context.dagster_type.typing_type
        return declared.model_validate_json(path.read_text())


@io_manager(description="References between ops, as JSON.")
def json_io_manager(context: InitResourceContext) -> JsonIOManager:
    """The IO manager of every job, in the instance's storage folder."""
    assert context.instance is not None
    return JsonIOManager(UPath(context.instance.storage_directory()))
