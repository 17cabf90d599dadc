"""Rule languages to one intermediate form, evaluated over the columns of a batch.

* :mod:`~ebpfsentinel.rules.cel`: CEL conditions: parsed and type-checked by Google's library.
* :mod:`~ebpfsentinel.rules.checked`: the checked expression as the library hands it out.
* :mod:`~ebpfsentinel.rules.form`: the intermediate form.
* :mod:`~ebpfsentinel.rules.translate`: checked expression to form.
* :mod:`~ebpfsentinel.rules.texts`: many tests of many strings, in one Hyperscan pass.
* :mod:`~ebpfsentinel.rules.columns`: the form evaluated over a table.
* :mod:`~ebpfsentinel.rules.matcher`: all conditions of a rule set over a table.
"""

from ebpfsentinel.rules.cel import Cel

__all__ = ["Cel"]
