"""An index in few bits: how many answers survive storage, before closing and after."""

import modgap

sample = modgap.load_sample()
codecs: list[modgap.robustness.Noise] = [
    modgap.Bins(8),
    modgap.Bins(16),
    modgap.Codec("int8"),
    modgap.Sign(),
]
study = modgap.evaluate(sample.task(), ["none", "recenter", "orthogonal", "affine"], noises=codecs)

print(f"{'closer':12}" + "".join(f"{codec.label:>10}" for codec in codecs))
for row in study:
    print(f"{row.label:12}" + "".join(f"{result.retention:10.3f}" for result in row.results))
