"""How many calls a destination may have at once."""

from streams.sender import SenderPolicy, _Destination


def test_a_receiver_that_answers_fast_keeps_its_share_between_two_looks() -> None:
    """It has nothing in flight at any of them. Later it is forgotten, as there are many."""
    destination = _Destination(SenderPolicy(room_first=8, room_max=128))
    for _ in range(40):
        destination.answered(100.0)
    assert destination.room(100.01) == 48
    assert not destination.is_as_new(100.01)
    assert destination.is_as_new(161.0)


def test_a_receiver_that_does_not_answer_is_not_forgotten() -> None:
    """Forgotten, it would be given the first share again."""
    destination = _Destination(SenderPolicy(room_first=8))
    destination.failed(100.0, began_at=99.0)
    assert destination.room(1_000.0) == 4
    assert not destination.is_as_new(1_000.0)
