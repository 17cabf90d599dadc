"""Detection by time, and what follows from it: the engine as a conversation."""
