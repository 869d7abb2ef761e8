"""Word error rates of the assistant's recognisers that come with a model, on real recordings, stated as they are.

python -m benchmarks.voice_words            half a minute of CPU; needs the shared data
python -m benchmarks.voice_words --slice    a few recordings, for CI

Recordings of single words: Speech Commands' (a clip each) and the digits of alphanumeric (three people each). This
project trained none of these recognisers. A clip's own word is its reference, so the error rate counts wrong and
missing words and every word too many. PocketSphinx hears every third recording freely, as it would a sentence, and all
with a grammar of the words that there are; SpellingCNN hears the digits. Intervals: bootstrap over recordings.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.figures import Figure, write
from benchmarks.voice_parts import MOONSHINE, SHARED, recording
from device_apps.voice_assistant.recognise import Recogniser, Sphinx, WordWindows, letters_labels, letters_picture
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from edge.engines import open_engine
from edge.errors import BadData
from edge.report import Interval

Clip = tuple[str, Samples]
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DRAWS = 2000
EVERY = 3  # of the recordings, for what takes as long as the sound does


def main() -> int:
    """Recognise, count, write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slice", action="store_true", help="a few recordings, and no results are written")
    few = 3 if parser.parse_args().slice else None
    if not (SHARED / "speech").is_dir():
        print("SKIPPED: the shared data is not here")
        return 0
    words, digits = commands()[:few], spoken_digits()[:few]
    labels = letters_labels((MOONSHINE / "spelling_cnn_meta.json").read_bytes())
    letters = WordWindows(open_engine(MOONSHINE / "spelling_cnn_mel_fp32.tflite", "tflite"), labels, letters_picture)
    free = Sphinx()
    figures = [
        rate("free.commands", free, words[::EVERY]),
        rate("free.digits", free, digits[::EVERY]),
        rate("grammar.commands", Sphinx(grammar([word for word, _ in words])), words),
        rate("grammar.digits", Sphinx(grammar(DIGITS)), digits),
        rate("letters.digits", letters, digits),
    ]
    for figure in figures:
        print(figure.name, figure.value, figure.ci95)
    if few is None:
        write("voice_words", "python -m benchmarks.voice_words", figures)
    return 0


def commands() -> list[Clip]:
    """Speech Commands' words, a clip each; names that are two words, or no PCM, are left out."""
    found = []
    for path in sorted((SHARED / "speech/speechcmd_samples/examples").glob("*.wav")):
        try:
            found.append((path.stem, recording(path)))
        except BadData as error:
            print(f"left out: {error.message}", file=sys.stderr)
    return [(word, samples) for word, samples in found if word.isalpha()]


def spoken_digits() -> list[Clip]:
    """The digits of alphanumeric, three people each."""
    folder = SHARED / "speech/alphanumeric"
    return [(digit, recording(path)) for digit in DIGITS for path in sorted((folder / digit).glob("*.wav"))]


def grammar(words: Sequence[str]) -> str:
    """One of the words."""
    return f"#JSGF V1.0; grammar words; public <word> = {' | '.join(sorted(set(words)))};"


def rate(name: str, recogniser: Recogniser, clips: Sequence[Clip]) -> Figure:
    """The word error rate of one recogniser."""
    edits = [errors(word, heard(recogniser, samples)) for word, samples in clips]
    recogniser.close()
    share = float(np.mean(edits))
    return Figure(f"wer.{name}", f"reported: {len(clips)} recordings", share, "", interval(edits), met=True)


def heard(recogniser: Recogniser, samples: Samples) -> list[str]:
    """A clip with a little quiet around it, in blocks of 20 ms."""
    rng = np.random.default_rng(3)
    quiet = rng.normal(size=RATE_HZ * 2 // 5).astype(np.float32) * np.float32(2e-4)
    sound = np.concatenate([quiet, samples, quiet])
    recogniser.start()
    for at in range(0, len(sound), 320):
        recogniser.push(sound[at : at + 320])
    return recogniser.finish().text.split()


def errors(word: str, found: Sequence[str]) -> int:
    """Edits to a reference of one word: what is too many, and one where it is not among what was heard."""
    if not found:
        return 1
    return len(found) - 1 if word in found else len(found)


def interval(values: Sequence[int]) -> Interval:
    """Of the mean, by bootstrap over recordings."""
    drawn = np.random.default_rng(0).choice(values, (DRAWS, len(values))).mean(axis=1)
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


if __name__ == "__main__":
    sys.exit(main())
