from coma_mm.datasets import PartSampler


def epoch(sampler, number):
    sampler.set_epoch(number)
    numbers = list(sampler)
    assert len(numbers) == len(sampler)
    return numbers


def test_the_parts_of_a_pass_have_no_image_twice():
    sampler = PartSampler(range(23), parts=4, seed=3)
    passes = [[epoch(sampler, 4 * number + part) for part in range(4)] for number in range(2)]
    for parts in passes:
        assert [len(part) for part in parts] == [5] * 4
        assert len({image for part in parts for image in part}) == 20
    assert passes[0] != passes[1]
    assert epoch(PartSampler(range(23), parts=4, seed=3), 5) == passes[1][1]
    assert epoch(PartSampler(range(23), parts=4, seed=4), 5) != passes[1][1]


def test_one_part_is_a_pass():
    assert sorted(epoch(PartSampler(range(7), seed=0), 2)) == list(range(7))
