"""Is a release well? Checks (facts to findings), and the command that a person runs. AgentHealth runs the same checks."""
