"""Generation from the mixture: its prices are the Mixer's own, and what repeats is copied."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.plugins.generate import MixedLogits
from ngrammix.mixer import Mixer

V = 5


def logits_of(n, seed=0, v=V):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (n, v)).astype(np.float32))


def drive(processor, text, n_prompt, logits):
    """What `generate` would do if it drew text: the processor's rows for text[n_prompt:]."""
    rows = [
        processor(torch.tensor([text[:t]]), logits[t - 1][None])[0]
        for t in range(n_prompt, len(text) + 1)
    ]
    return torch.stack(rows)


def saying(logits):
    """A model whose logits after position t are row t, whatever the tokens."""
    return lambda tokens: logits[None, : tokens.shape[1]]


texts = st.lists(st.integers(0, V - 1), min_size=2, max_size=30)


@given(texts, st.integers(0, 9), st.data())
def test_generated_tokens_cost_what_the_mixer_says(text, seed, data):
    n = data.draw(st.integers(1, len(text) - 1))
    logits = logits_of(len(text), seed)
    mixer, other = Mixer(vocab_size=V, order=3), Mixer(vocab_size=V, order=3)
    rows = drive(MixedLogits(mixer), text, n, logits)
    other.boundary()
    other.learn(text[:n])
    nats = other.score(logits[n - 1 : -1], text[n:])
    np.testing.assert_allclose([-row[t] for row, t in zip(rows, text[n:], strict=False)], nats,
                               rtol=1e-5, atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(rows.exp().sum(1), 1, rtol=1e-5)
    assert mixer.regret_bits == other.regret_bits


@given(texts, st.integers(0, 9), st.data())
def test_with_the_model_the_prompt_is_scored_too(text, seed, data):
    n = data.draw(st.integers(1, len(text) - 1))
    logits = logits_of(len(text), seed)
    mixer, other = Mixer(vocab_size=V, order=3), Mixer(vocab_size=V, order=3)
    rows = drive(MixedLogits(mixer, model=saying(logits)), text, n, logits)
    other.boundary()
    other.learn(text[:1])
    nats = other.score(logits[:-1], text[1:])
    np.testing.assert_allclose([-row[t] for row, t in zip(rows, text[n:], strict=False)],
                               nats[n - 1 :], rtol=1e-5, atol=1e-6)  # fmt: skip
    assert mixer.regret_bits == other.regret_bits


def test_a_prompt_that_goes_on_is_learned_from_there():
    text = [0, 1, 2, 0, 1, 2, 0, 1, 2, 3]
    logits = logits_of(len(text))
    mixer, other = Mixer(vocab_size=V, order=3), Mixer(vocab_size=V, order=3)
    processor = MixedLogits(mixer, model=saying(logits))
    for n in (3, 4, 8, 10):  # a prompt, a token drawn, and two prompts that go on
        processor(torch.tensor([text[:n]]), logits[n - 1][None])
    other.boundary()
    other.learn(text[:1])
    other.score(logits[:-1], text[1:])
    assert mixer.regret_bits == other.regret_bits
    assert mixer.cache.stats() == other.cache.stats()


def test_another_prompt_is_a_new_document():
    mixer, other = Mixer(vocab_size=V, order=3), Mixer(vocab_size=V, order=3)
    processor, logits = MixedLogits(mixer), logits_of(4)
    drive(processor, [0, 1, 2], 2, logits)
    rows = drive(processor, [3, 0, 1, 2], 3, logits)
    other.boundary()
    other.learn([0, 1])
    other.score(logits[1][None], [2])
    other.boundary()
    other.learn([3, 0, 1])
    np.testing.assert_allclose(rows[0].exp(), other.probs(logits[2]), rtol=1e-5)
    other.score(logits[2][None], [2])
    assert mixer.cache.stats() == other.cache.stats()


def test_the_same_prompt_asked_again_is_not_learned_again():
    mixer, logits = Mixer(vocab_size=V), logits_of(1)
    processor = MixedLogits(mixer)
    ids = torch.tensor([[0, 1, 0, 1, 0]])
    first, position = processor(ids, logits), mixer.cache.stats()
    torch.testing.assert_close(processor(ids, logits), first, rtol=0, atol=0)
    assert mixer.cache.stats() == position


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_scores_keep_their_type_and_their_forbidden_tokens(dtype):
    scores = logits_of(1).to(dtype)
    scores[0, 2] = -torch.inf
    mixed = MixedLogits(Mixer(vocab_size=V))(torch.tensor([[2, 2, 2, 2, 2, 2]]), scores)
    assert mixed.dtype == dtype
    assert torch.isneginf(mixed[0]).tolist() == [False, False, True, False, False]


def test_a_token_drawn_although_forbidden_is_learned_without_a_price():
    scores = logits_of(1)
    scores[0, 2] = -torch.inf
    mixer = Mixer(vocab_size=V)
    drive(MixedLogits(mixer), [0, 1, 2], 2, scores.expand(3, V))
    assert mixer.regret_bits == 0
    assert mixer.position == 3


def test_each_row_is_a_stream_of_its_own_and_padding_is_in_none():
    pad = 4
    mixers = [Mixer(vocab_size=V), Mixer(vocab_size=V)]
    processor = MixedLogits(mixers, pad_token_id=pad)
    rows = logits_of(8)
    processor(torch.tensor([[pad, pad, 0, 1], [0, 1, 2, 3]]), rows[:2])
    processor(torch.tensor([[pad, pad, 0, 1, 2], [0, 1, 2, 3, 0]]), rows[2:4])
    processor(torch.tensor([[pad, pad, 0, 1, 2, pad], [0, 1, 2, 3, 0, 1]]), rows[4:6])
    for mixer, prompt, drawn, at in ((mixers[0], [0, 1], [2], (0,)),
                                     (mixers[1], [0, 1, 2, 3], [0, 1], (1, 3))):  # fmt: skip
        other = Mixer(vocab_size=V)
        other.boundary()
        other.learn(prompt)
        other.score(rows[list(at)], drawn)
        assert mixer.cache.stats() == other.cache.stats()
        assert mixer.regret_bits == other.regret_bits


def test_a_row_that_ended_keeps_the_logits_of_what_comes_next():
    said, pad, rows = [0, 1, 2, 0, 1], 4, logits_of(4)
    mixer, other = Mixer(vocab_size=V), Mixer(vocab_size=V)
    processor = MixedLogits(mixer, pad_token_id=pad)
    for ids, row in zip((said, [*said, pad], [*said, 2]), rows, strict=False):
        scores = row[None].clone()
        processor(torch.tensor([ids]), scores)
        scores.zero_()  # as another processor may, in place
    other.learn(said)
    other.score(rows[0][None], [2])
    assert mixer.regret_bits == other.regret_bits != 0
    assert mixer.position == 6


ERRORS = {
    "no mixer": (
        lambda: MixedLogits([]),
        "mixers must be one Mixer for each row, got 0 with 0 different ones; make a Mixer for "
        "each row",
    ),
    "one mixer twice": (
        lambda: MixedLogits([Mixer(vocab_size=V)] * 2),
        "mixers must be one Mixer for each row, got 2 with 1 different ones; make a Mixer for "
        "each row",
    ),
    "two vocabularies": (
        lambda: MixedLogits([Mixer(vocab_size=V), Mixer(vocab_size=7)]),
        "mixers must have one vocab_size, got [5, 7]; pass the model's",
    ),
    "a batch for one mixer": (
        lambda: MixedLogits(Mixer(vocab_size=V))(torch.tensor([[1], [2]]), logits_of(2)),
        "scores must have shape (1, 5), a row for each Mixer and its vocab_size, got (2, 5); "
        "pass a list with one Mixer per row, and leave num_beams at 1",
    ),
    "another width": (
        lambda: MixedLogits(Mixer(vocab_size=V))(torch.tensor([[1]]), logits_of(1, v=6)),
        "scores must have shape (1, 5), a row for each Mixer and its vocab_size, got (1, 6); "
        "pass a list with one Mixer per row, and leave num_beams at 1",
    ),
    "NaN": (
        lambda: MixedLogits(Mixer(vocab_size=V))(torch.tensor([[1]]), logits_of(1) * torch.nan),
        "scores must be numbers with a finite largest, got nan in row 0; "
        "look for an overflow in the model, or forbid fewer tokens",
    ),
    "nothing possible": (
        lambda: MixedLogits(Mixer(vocab_size=V))(
            torch.tensor([[1]]), torch.full((1, V), -torch.inf)
        ),
        "scores must be numbers with a finite largest, got -inf in row 0; "
        "look for an overflow in the model, or forbid fewer tokens",
    ),
    "a token beyond V": (
        lambda: MixedLogits(Mixer(vocab_size=V))(torch.tensor([[1, 5]]), logits_of(1)),
        "input_ids must be in [0, 5), got 5 at position 1; "
        "raise vocab_size or check the tokenizer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_mixed_is_refused(case):
    call, text = ERRORS[case]
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == text


@pytest.mark.parametrize("ids", [[0, 1, 3, 3], [0, 1, 3], [0, 1, 2, 4, 1]], ids=str)
def test_beams_and_drafts_are_refused_and_nothing_is_learned(ids):
    mixer, logits = Mixer(vocab_size=V), logits_of(4)
    processor = MixedLogits(mixer)
    drive(processor, [0, 1, 2, 3], 2, logits)
    before = mixer.cache.stats()
    with pytest.raises(ValueError) as error:
        processor(torch.tensor([ids]), logits[:1])
    assert str(error.value) == (
        "input_ids must go on from the tokens before them, one at a time, got others in row 0 "
        "after the same prompt; generate without beams and without drafts, or make a new "
        "MixedLogits for a new prompt"
    )
    assert mixer.cache.stats() == before
    drive(MixedLogits(mixer), ids, len(ids), logits_of(len(ids)))  # and so it works


@pytest.fixture
def llama(shared):
    transformers = pytest.importorskip("transformers")
    folder = shared("models/llama-sp1024-1m4")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval(), tokenizer


def generate(model, ids, n_new, **arguments):
    """The n_new tokens after each row of ids (B, T); greedy unless told otherwise."""
    ids = torch.tensor(ids)
    settings = {"do_sample": False, "max_new_tokens": n_new, "min_new_tokens": n_new} | arguments
    output = model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **settings)
    return output[:, ids.shape[1] :].tolist()


UNUSUAL = {
    "prose": "The zebra Quixotl paid 4917 florins to Wenzel Hrdlicka, who keeps blue beehives "
    "behind the observatory at Nizhny Lomov; nobody asked why the 38 lanterns burned green.",
    "log": "Jun 14 15:16:01 combo sshd(pam_unix)[19939]: authentication failure; logname= uid=0 "
    "euid=0 tty=NODEVssh ruser= rhost=218.188.2.4",
    "keys": "xK9 vQ2 pL7 mN4 rT8 wZ1 bH6 cJ3 dF5 gS0 yE2 uA9 iO4 kP7 lM1 nB8 vC6 xZ3 qW5 eR0",
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_text_said_one_and_a_half_times_is_copied_to_its_end(name, llama):
    """The model alone copies at most 9 % of the rest, the mixture all of it."""
    model, tokenizer = llama
    ids = tokenizer(UNUSUAL[name], add_special_tokens=False).input_ids
    half = len(ids) // 2
    prompt, rest = [1, *ids, *ids[:half]], ids[half:]
    processor = MixedLogits(Mixer(vocab_size=model.config.vocab_size), model=model)
    (alone,) = generate(model, [prompt], len(rest))
    (mixed,) = generate(model, [prompt], len(rest), logits_processor=[processor])
    assert np.mean(np.array(alone) == rest) <= 0.09
    assert mixed == rest


def test_sampling_obeys_the_other_processors(llama):
    model, tokenizer = llama
    ids = tokenizer("one two one two one two one", add_special_tokens=False).input_ids
    torch.manual_seed(0)
    mixer = Mixer(vocab_size=model.config.vocab_size)
    (drawn,) = generate(
        model, [[1, *ids]], 20, do_sample=True, top_k=20, temperature=0.7,
        suppress_tokens=ids[-1:], logits_processor=[MixedLogits(mixer, model=model)],
    )  # fmt: skip
    assert ids[-1] not in drawn
    assert len(drawn) == 20
    assert mixer.position == 1 + len(ids) + 19  # the last one is never shown


def test_rows_of_a_batch_are_generated_as_they_are_alone(llama):
    model, tokenizer = llama
    texts = ["red fish blue fish red fish blue", "seven seas and seven skies and seven"]
    ids = [tokenizer(text, add_special_tokens=False).input_ids[:8] for text in texts]
    v = model.config.vocab_size
    alone = [
        generate(
            model, [row], 12, logits_processor=[MixedLogits(Mixer(vocab_size=v), model=model)]
        )[0]
        for row in ids
    ]
    both = MixedLogits([Mixer(vocab_size=v), Mixer(vocab_size=v)], model=model)
    assert generate(model, ids, 12, logits_processor=[both]) == alone


BEAMS, DRAFTS = "beam search", "assisted decoding"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"num_beams": 3}, BEAMS),
        ({"num_beams": 2, "do_sample": True}, BEAMS),
        ({"prompt_lookup_num_tokens": 3}, DRAFTS),
        ({"assistant_model": True}, DRAFTS),
        ({"assistant_model": True, "do_sample": True}, DRAFTS),
    ],
)
@pytest.mark.parametrize("n_rows", [1, 3])
def test_real_beams_and_real_drafts_are_refused_at_the_first_token(arguments, name, n_rows, llama):
    model, tokenizer = llama
    ids = tokenizer("a b c d a b x d a b c a b", add_special_tokens=False).input_ids
    mixers = [Mixer(vocab_size=model.config.vocab_size) for _ in range(n_rows)]
    if "assistant_model" in arguments:
        arguments = arguments | {"assistant_model": model}
    with pytest.raises(ValueError) as error:
        generate(model, [[1, *ids]], 20, logits_processor=[MixedLogits(mixers)], **arguments)
    assert str(error.value) == (
        f"generate must draw one token for each row at a time, got {name}; leave num_beams at 1, "
        "and leave out assistant_model, prompt_lookup_num_tokens and other drafts"
    )
    assert all(mixer.position == 0 for mixer in mixers)
