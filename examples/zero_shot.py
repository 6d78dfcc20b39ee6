"""Zero-shot classification: which answers are fragile, and what closing the gap does to them."""

import modgap

sample = modgap.load_sample()
noise = modgap.Gaussian(0.04)
study = modgap.evaluate(sample.task(), ["none", "affine"], noises=[noise])

for row in study:
    print(
        f"{row.label:8} agreement {row.agreement:.3f}  stability {row.under(noise).stability:.3f}"
    )

after = study["affine"].under(noise).outcome.stability
print("\nthe most fragile images before closing, and their stability after:")
for entry in study["none"].fragile(5):
    i = entry["query"]
    label = sample.classes[entry["decision"]]
    print(f"image {i:4} -> {label:10} {entry['stability']:.3f} -> {after[i]:.3f}")
