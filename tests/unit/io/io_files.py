"""Write one array, or several, in every format that modgap reads."""

import numpy as np

#: Suffixes whose files hold named arrays.
KEYED = (".npz", ".safetensors", ".parquet", ".arrow", ".pt")
SUFFIXES = (".npy", *KEYED)


def save(path, **arrays):
    """Write the arrays with the format's own library, never with modgap."""
    suffix = path.suffix
    if suffix == ".npy":
        (array,) = arrays.values()
        np.save(path, array)
    elif suffix == ".npz":
        np.savez(path, **arrays)
    elif suffix == ".safetensors":
        import safetensors.numpy

        safetensors.numpy.save_file(
            {key: np.ascontiguousarray(array) for key, array in arrays.items()}, path
        )
    elif suffix == ".pt":
        import torch

        torch.save({key: torch.from_numpy(array.copy()) for key, array in arrays.items()}, path)
    else:
        save_table(path, arrays)
    return path


def save_table(path, arrays, *, chunk=7):
    """Write columns in several row groups, or batches, of `chunk` rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({key: column(array) for key, array in arrays.items()})
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=chunk)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=chunk)


def column(array):
    """Return a NumPy array as an Arrow column; two axes become lists."""
    import pyarrow as pa

    if array.ndim == 1:
        return pa.array(array)
    return pa.array(list(array))
