"""The docs page says what the code does."""

import re
from pathlib import Path

import msgspec
import yaml

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.settings import FirewallRule, FirewallSettings
from ebpfsentinel.model.action import Switch
from ebpfsentinel.model.domain import Surroundings, Tools

PAGE = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_table_names_every_field_of_a_rule_and_no_other():
    table = re.search(r"<!-- rule fields -->\n(.*?)<!-- /rule fields -->", PAGE, re.DOTALL)[1]
    keys = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in table.splitlines()]
    named = {key for found in keys for key in found}
    assert named == set(FirewallRule.__struct_fields__)


def test_every_setting_that_works_is_on_the_page():
    schema = msgspec.json.schema(FirewallSettings)["$defs"]["FirewallSettings"]["properties"]
    for name, each in schema.items():
        assert each.get("description"), name
        if not each.get("x-reserved") and name not in ("enabled", "rules"):
            assert f"firewall.{name}" in PAGE, name


def test_the_configuration_on_the_page_compiles():
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    for block in blocks:
        written = msgspec.convert(yaml.safe_load(block)["firewall"], FirewallSettings)
        plan = DOMAIN.engine(Tools(rules=None)).plan(
            written, {}, Surroundings(provided=frozenset({"flows", "owners"}))
        )
        switch = next(a for a in plan.actions if isinstance(a, Switch))
        assert switch.places or switch.head["first_count"]
