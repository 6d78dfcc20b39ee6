"""Zero-shot classification: which answers are fragile, and what closing the gap does to them."""

import modgap

sample = modgap.load_sample()
noise = modgap.Gaussian(0.04)
study = modgap.evaluate(sample.task(), ["none", "affine"], noises=[noise])

for row in study.closers:
    print(
        f"{row['method']:8} agreement {row['agreement']:.3f}  stability {row['noises'][0]['stability']:.3f}"
    )

affine = study.details[1].outcomes[0].stability
print("\nthe most fragile images before closing, and their stability after:")
for entry in study.fragile(5):
    i = entry["query"]
    label = sample.classes[entry["decision"]]
    print(f"image {i:4} -> {label:10} {entry['stability']:.3f} -> {affine[i]:.3f}")
