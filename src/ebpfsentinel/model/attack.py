"""The enterprise matrix of MITRE ATT&CK: what a technique is called, and which tactics it serves.

Only techniques, not their sub-techniques: those serve the same tactics, and are named by their
parent. The letters stand for tactics as in :data:`TACTICS`.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

TACTICS = {
    "r": ("TA0043", "reconnaissance"),
    "d": ("TA0042", "resource-development"),
    "i": ("TA0001", "initial-access"),
    "x": ("TA0002", "execution"),
    "p": ("TA0003", "persistence"),
    "e": ("TA0004", "privilege-escalation"),
    "s": ("TA0005", "defense-evasion"),
    "c": ("TA0006", "credential-access"),
    "v": ("TA0007", "discovery"),
    "l": ("TA0008", "lateral-movement"),
    "g": ("TA0009", "collection"),
    "k": ("TA0011", "command-and-control"),
    "f": ("TA0010", "exfiltration"),
    "m": ("TA0040", "impact"),
}
"""Letter to number and name, in the order of an attack."""

_TABLE = """
T1001 k Data Obfuscation
T1003 c OS Credential Dumping
T1005 g Data from Local System
T1006 s Direct Volume Access
T1007 v System Service Discovery
T1008 k Fallback Channels
T1010 v Application Window Discovery
T1011 f Exfiltration Over Other Network Medium
T1012 v Query Registry
T1014 s Rootkit
T1016 v System Network Configuration Discovery
T1018 v Remote System Discovery
T1020 f Automated Exfiltration
T1021 l Remote Services
T1025 g Data from Removable Media
T1027 s Obfuscated Files or Information
T1029 f Scheduled Transfer
T1030 f Data Transfer Size Limits
T1033 v System Owner/User Discovery
T1036 s Masquerading
T1037 pe Boot or Logon Initialization Scripts
T1039 g Data from Network Shared Drive
T1040 cv Network Sniffing
T1041 f Exfiltration Over C2 Channel
T1046 v Network Service Discovery
T1047 x Windows Management Instrumentation
T1048 f Exfiltration Over Alternative Protocol
T1049 v System Network Connections Discovery
T1052 f Exfiltration Over Physical Medium
T1053 xpe Scheduled Task/Job
T1055 es Process Injection
T1056 cg Input Capture
T1057 v Process Discovery
T1059 x Command and Scripting Interpreter
T1068 e Exploitation for Privilege Escalation
T1069 v Permission Groups Discovery
T1070 s Indicator Removal
T1071 k Application Layer Protocol
T1072 xl Software Deployment Tools
T1074 g Data Staged
T1078 ipes Valid Accounts
T1080 l Taint Shared Content
T1082 v System Information Discovery
T1083 v File and Directory Discovery
T1087 v Account Discovery
T1090 k Proxy
T1091 il Replication Through Removable Media
T1092 k Communication Through Removable Media
T1095 k Non-Application Layer Protocol
T1098 pe Account Manipulation
T1102 k Web Service
T1104 k Multi-Stage Channels
T1105 k Ingress Tool Transfer
T1106 x Native API
T1110 c Brute Force
T1111 c Multi-Factor Authentication Interception
T1112 ps Modify Registry
T1113 g Screen Capture
T1114 g Email Collection
T1115 g Clipboard Data
T1119 g Automated Collection
T1120 v Peripheral Device Discovery
T1123 g Audio Capture
T1124 v System Time Discovery
T1125 g Video Capture
T1127 s Trusted Developer Utilities Proxy Execution
T1129 x Shared Modules
T1132 k Data Encoding
T1133 ip External Remote Services
T1134 es Access Token Manipulation
T1135 v Network Share Discovery
T1136 p Create Account
T1137 p Office Application Startup
T1140 s Deobfuscate/Decode Files or Information
T1176 p Software Extensions
T1185 g Browser Session Hijacking
T1187 c Forced Authentication
T1189 i Drive-by Compromise
T1190 i Exploit Public-Facing Application
T1195 i Supply Chain Compromise
T1197 ps BITS Jobs
T1199 i Trusted Relationship
T1200 i Hardware Additions
T1201 v Password Policy Discovery
T1202 s Indirect Command Execution
T1203 x Exploitation for Client Execution
T1204 x User Execution
T1205 psk Traffic Signaling
T1207 s Rogue Domain Controller
T1210 l Exploitation of Remote Services
T1211 s Exploitation for Defense Evasion
T1212 c Exploitation for Credential Access
T1213 g Data from Information Repositories
T1216 s System Script Proxy Execution
T1217 v Browser Information Discovery
T1218 s System Binary Proxy Execution
T1219 k Remote Access Tools
T1220 s XSL Script Processing
T1221 s Template Injection
T1222 s File and Directory Permissions Modification
T1480 s Execution Guardrails
T1482 v Domain Trust Discovery
T1484 es Domain or Tenant Policy Modification
T1485 m Data Destruction
T1486 m Data Encrypted for Impact
T1489 m Service Stop
T1490 m Inhibit System Recovery
T1491 m Defacement
T1495 m Firmware Corruption
T1496 m Resource Hijacking
T1497 sv Virtualization/Sandbox Evasion
T1498 m Network Denial of Service
T1499 m Endpoint Denial of Service
T1505 p Server Software Component
T1518 v Software Discovery
T1525 p Implant Internal Image
T1526 v Cloud Service Discovery
T1528 c Steal Application Access Token
T1529 m System Shutdown/Reboot
T1530 g Data from Cloud Storage
T1531 m Account Access Removal
T1534 l Internal Spearphishing
T1535 s Unused/Unsupported Cloud Regions
T1537 f Transfer Data to Cloud Account
T1538 v Cloud Service Dashboard
T1539 c Steal Web Session Cookie
T1542 ps Pre-OS Boot
T1543 pe Create or Modify System Process
T1546 pe Event Triggered Execution
T1547 pe Boot or Logon Autostart Execution
T1548 es Abuse Elevation Control Mechanism
T1550 sl Use Alternate Authentication Material
T1552 c Unsecured Credentials
T1553 s Subvert Trust Controls
T1554 p Compromise Host Software Binary
T1555 c Credentials from Password Stores
T1556 psc Modify Authentication Process
T1557 cg Adversary-in-the-Middle
T1558 c Steal or Forge Kerberos Tickets
T1559 x Inter-Process Communication
T1560 g Archive Collected Data
T1561 m Disk Wipe
T1562 s Impair Defenses
T1563 l Remote Service Session Hijacking
T1564 s Hide Artifacts
T1565 m Data Manipulation
T1566 i Phishing
T1567 f Exfiltration Over Web Service
T1568 k Dynamic Resolution
T1569 x System Services
T1570 l Lateral Tool Transfer
T1571 k Non-Standard Port
T1572 k Protocol Tunneling
T1573 k Encrypted Channel
T1574 pes Hijack Execution Flow
T1578 s Modify Cloud Compute Infrastructure
T1580 v Cloud Infrastructure Discovery
T1583 d Acquire Infrastructure
T1584 d Compromise Infrastructure
T1585 d Establish Accounts
T1586 d Compromise Accounts
T1587 d Develop Capabilities
T1588 d Obtain Capabilities
T1589 r Gather Victim Identity Information
T1590 r Gather Victim Network Information
T1591 r Gather Victim Org Information
T1592 r Gather Victim Host Information
T1593 r Search Open Websites/Domains
T1594 r Search Victim-Owned Websites
T1595 r Active Scanning
T1596 r Search Open Technical Databases
T1597 r Search Closed Sources
T1598 r Phishing for Information
T1599 s Network Boundary Bridging
T1600 s Weaken Encryption
T1601 s Modify System Image
T1602 g Data from Configuration Repository
T1606 c Forge Web Credentials
T1608 d Stage Capabilities
T1609 x Container Administration Command
T1610 sx Deploy Container
T1611 e Escape to Host
T1612 s Build Image on Host
T1613 v Container and Resource Discovery
T1614 v System Location Discovery
T1615 v Group Policy Discovery
T1619 v Cloud Storage Object Discovery
T1620 s Reflective Code Loading
T1621 c Multi-Factor Authentication Request Generation
T1622 sv Debugger Evasion
T1647 s Plist File Modification
T1648 x Serverless Execution
T1649 c Steal or Forge Authentication Certificates
T1650 d Acquire Access
T1651 x Cloud Administration Command
T1652 v Device Driver Discovery
T1653 p Power Settings
T1654 v Log Enumeration
T1656 s Impersonation
T1657 m Financial Theft
T1659 ik Content Injection
"""
_TECHNIQUE = re.compile(r"(T\d{4})(\.\d{3})?", re.IGNORECASE)


class Technique(NamedTuple):
    """A technique's name, and the names of the tactics that it serves."""

    name: str
    tactics: tuple[str, ...]


@functools.cache
def _known() -> dict[str, Technique]:
    rows = (line.split(" ", 2) for line in _TABLE.strip().splitlines())
    return {key: Technique(name, tuple(TACTICS[c][1] for c in at)) for key, at, name in rows}


def technique(key: str | None) -> Technique | None:
    """What ``T1059`` or ``T1059.004`` is; None where it is not known."""
    found = _TECHNIQUE.fullmatch(key or "")
    return _known().get(found[1].upper()) if found else None


def is_technique(text: str) -> bool:
    """Is it written as ATT&CK writes techniques?"""
    return bool(_TECHNIQUE.fullmatch(text))


def tactic(text: str) -> str | None:
    """The name of a tactic written ``TA0011``, ``command-and-control``, ``Command and Control``."""
    word = re.sub(r"[\s_-]+", "-", text.strip().lower())
    return next((name for key, name in TACTICS.values() if word in (key.lower(), name)), None)
