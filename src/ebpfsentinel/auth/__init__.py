"""Who calls, and what they may do: keys, tokens, certificates, roles, and how often.

:mod:`ebpfsentinel.api` asks for both before every request, REST and gRPC alike.
"""
