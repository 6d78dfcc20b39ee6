"""A process of its own that turns Vega-Lite into pictures: one JSON line in, a counted reply out.

It imports nothing of modgap, so that it starts as fast as Python does. See `drawing`.
"""

import json
import sys


def serve() -> None:
    """Answer requests until the input ends, as it does when the parent ends in whatever way."""
    import vl_convert

    for line in sys.stdin.buffer:
        request = json.loads(line)
        form, spec, version = request["format"], request["spec"], request["version"]
        try:
            if form == "svg":
                done = vl_convert.vegalite_to_svg(spec, vl_version=version).encode()
            elif form == "pdf":
                done = vl_convert.vegalite_to_pdf(spec, vl_version=version)
            else:
                done = vl_convert.vegalite_to_png(spec, vl_version=version, scale=request["scale"])
            head = b"ok"
        except Exception as error:
            done, head = f"{type(error).__name__}: {error}".encode(), b"error"
        sys.stdout.buffer.write(b"%s %d\n" % (head, len(done)) + done)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
