"""Enrichment from real files: MaxMind's format, and what runtimes leave on disk."""

import json
import os

import msgspec
import netaddr
import pytest
from mmdb_writer import MMDBWriter

from ebpfsentinel.enrichment import Enricher, SeenNames
from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.enriching import Container, GeoIp

ID = "ab" * 32


def alert(src=None, dst=None, container=""):
    known = {"pid": 7, "start_ns": 1, "container_id": container}
    return Alert(
        timestamp_ns=1,
        component="c",
        severity=Severity.LOW,
        rule_id="r",
        action="log",
        message="",
        src_ip=src,
        dst_ip=dst,
        pid=7,
        context={"any": known},
    )


def write(path, kind, rows):
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type=kind)
    for network, found in rows.items():
        writer.insert_network(netaddr.IPSet([network]), found)
    fresh = path.with_suffix(".new")
    writer.to_db_file(str(fresh))
    os.replace(fresh, path)  # noqa: PTH105 -- as geoipupdate does


def city(code, name):
    return {"country": {"iso_code": code, "names": {"en": name}}, "city": {"names": {"en": "X"}}}


@pytest.fixture
def enricher():
    made = Enricher()
    yield made
    made.close()


def configured(enricher, container=None, **source):
    geoip = {"enabled": bool(source), "source": source}
    enricher.configure(msgspec.convert(geoip, GeoIp), msgspec.convert(container or {}, Container))
    return enricher


def enriched(enricher, given):
    enricher.enrich([given])
    return given.context


def test_addresses_are_placed_by_country_city_and_system(enricher, tmp_path):
    write(tmp_path / "city.mmdb", "GeoLite2-City", {"8.8.8.0/24": city("US", "United States")})
    system = {"autonomous_system_number": 15169, "autonomous_system_organization": "GOOGLE"}
    write(tmp_path / "asn.mmdb", "GeoLite2-ASN", {"8.8.8.0/24": system})
    files = {"path": str(tmp_path / "city.mmdb"), "asn_path": str(tmp_path / "asn.mmdb")}
    got = enriched(configured(enricher, **files), alert(src="8.8.8.8", dst="10.0.0.1"))
    assert got["src_geo"] == {
        "country": "US",
        "country_name": "United States",
        "city": "X",
        "asn": 15169,
        "organization": "GOOGLE",
    }
    assert "dst_geo" not in got
    assert got["enrichment"] == "complete"


def test_a_file_that_is_replaced_is_read_anew_and_a_broken_one_is_not(enricher, tmp_path):
    path = tmp_path / "city.mmdb"
    write(path, "GeoLite2-City", {"8.8.8.0/24": city("US", "United States")})
    configured(enricher, path=str(path))
    assert enriched(enricher, alert(src="8.8.8.8"))["src_geo"]["country"] == "US"
    write(path, "GeoLite2-City", {"8.8.8.0/24": city("CH", "Switzerland")})
    enricher._geo._places._looked_s = -1e9
    assert enriched(enricher, alert(src="8.8.8.8"))["src_geo"]["country"] == "CH"
    path.write_bytes(b"no database")
    enricher._geo._places._looked_s = -1e9
    got = enriched(enricher, alert(src="8.8.8.8"))
    assert got["enrichment"] == "partial"


def test_without_its_file_an_alert_is_enriched_in_part(enricher, tmp_path):
    got = enriched(configured(enricher, path=str(tmp_path / "no.mmdb")), alert(src="8.8.8.8"))
    assert got["enrichment"] == "partial"


def roots(tmp_path):
    return {
        "docker": {"root": str(tmp_path / "docker")},
        "podman": {"root": str(tmp_path / "podman")},
        "kubernetes": {"log_dir": str(tmp_path / "logs")},
    }


def test_a_docker_container_has_its_name_and_image(enricher, tmp_path):
    folder = tmp_path / "docker" / "containers" / ID
    folder.mkdir(parents=True)
    labels = {"io.kubernetes.pod.name": "web-1", "io.kubernetes.pod.namespace": "shop"}
    config = {"Name": "/web", "Config": {"Image": "nginx:1", "Labels": labels}}
    (folder / "config.v2.json").write_text(json.dumps(config))
    got = enriched(configured(enricher, roots(tmp_path)), alert(container=ID))
    assert got["container"] == {
        "id": ID,
        "name": "web",
        "image": "nginx:1",
        "runtime": "docker",
        "pod": "web-1",
        "namespace": "shop",
    }
    assert got["enrichment"] == "complete"


def test_a_podman_container_has_its_name_and_image(enricher, tmp_path):
    folder = tmp_path / "podman" / "overlay-containers"
    folder.mkdir(parents=True)
    about = [{"id": ID, "names": ["db"], "metadata": json.dumps({"image-name": "postgres"})}]
    (folder / "containers.json").write_text(json.dumps(about))
    got = enriched(configured(enricher, roots(tmp_path)), alert(container=ID))
    assert (got["container"]["name"], got["container"]["image"]) == ("db", "postgres")


def test_a_kubelets_link_names_pod_namespace_and_container(enricher, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / f"web-5d_shop_app-{ID}.log").touch()
    got = enriched(configured(enricher, roots(tmp_path)), alert(container=ID))["container"]
    assert (got["pod"], got["namespace"], got["name"]) == ("web-5d", "shop", "app")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"Name": 1, "Config": []}', "\udcff"])
def test_what_is_not_known_or_not_readable_is_partial(enricher, tmp_path, text):
    folder = tmp_path / "docker" / "containers" / ID
    folder.mkdir(parents=True)
    (folder / "config.v2.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    got = enriched(configured(enricher, roots(tmp_path)), alert(container=ID))
    assert got["container"]["id"] == ID
    assert got["enrichment"] == ("complete" if got["container"].get("name") else "partial")


def test_an_id_is_no_path(enricher, tmp_path):
    got = enriched(configured(enricher, roots(tmp_path)), alert(container="../../etc"))
    assert got["container"]["name"] == "../../etc"


def test_names_that_were_seen_hold_as_long_as_their_ttl(enricher):
    names = SeenNames(most=2)
    names.see("1.1.1.1", "One.Example.", 60, 0)
    assert names.name_of("1.1.1.1", 59 * 10**9) == "one.example"
    assert names.name_of("1.1.1.1", 60 * 10**9) is None
    for number in range(4):
        names.see(f"10.0.0.{number}", "x", 60, 0)
    assert len(names) == 2
    enricher.names.see("8.8.8.8", "dns.example", 10**6, 10**18 * 2)
    got = enriched(configured(enricher), alert(src="8.8.8.8"))
    assert got["src_name"] == "dns.example"
