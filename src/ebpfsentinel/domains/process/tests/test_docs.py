"""The docs page says what the code does."""

import json
import re
from pathlib import Path

import msgspec
from process_records import bare, plan

from ebpfsentinel.domains.process.fields import markdown
from ebpfsentinel.domains.process.settings import ProcessSettings

PAGE = Path(__file__).parents[1] / "README.md"


def test_the_table_of_fields_is_that_of_the_code():
    found = re.search(r"<!-- fields -->\n(.*?)\n?<!-- /fields -->", PAGE.read_text(), re.DOTALL)
    assert found[1] == markdown()


def test_every_setting_is_on_the_page_and_described():
    text = PAGE.read_text()
    for field in msgspec.structs.fields(ProcessSettings):
        assert f"process.{field.name}" in text
    schema = msgspec.json.schema(ProcessSettings)["$defs"]["ProcessSettings"]["properties"]
    described = {name for name, each in schema.items() if each.get("description")}
    assert described == set(ProcessSettings.__struct_fields__)


def test_the_rule_on_the_page_is_taken():
    for block in re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL):
        json.loads(block)
        plan(bare(), block)
