"""The demonstration: two network namespaces, the real agent, friendly and hostile guests.

Run it with ``make demo``. It needs root and no network.

* :mod:`demo.network`: the two namespaces and the cable between them.
* :mod:`demo.agent`: the real agent as a process of its own, and its REST API.
* :mod:`demo.traffic`: what the client sends, and what really arrives.
* :mod:`demo.execs`: programs that look like an intrusion and do nothing.
* :mod:`demo.screen`: what you see.
* :mod:`demo.__main__`: the story, and the judgement at its end.
"""
