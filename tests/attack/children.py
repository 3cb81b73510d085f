"""What children of the test are asked to do; imports nothing, as a child imports it."""


def forever() -> None:
    while True:
        pass


def devour() -> int:
    return len(b"x" * (8 * 2**30))
