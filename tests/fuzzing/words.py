"""The words of each format, as edits put them in and swap them."""

PNG = (
    *b"""
    IHDR IDAT IEND PLTE tRNS gAMA tEXt zTXt iTXt iCCP eXIf acTL fdAT
""".split(),
)  # fmt: skip

JPEG = tuple(
    b"\xff" + bytes([marker])
    for marker in (0xC0, 0xC2, 0xC4, 0xD0, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xEE, 0xFE)
)

ZIP = (
    *b"""
    a/1.png ../1.png .npy
""".split(),
    b'PK\x03\x04', b'PK\x01\x02', b'PK\x05\x06', b'PK\x06\x06', b'PK\x06\x07', b'\x08\x00',
)  # fmt: skip

NPY = (
    *b"""
    'descr' '<f4' '|O' '<U9' '|V0' 'fortran_order' True False 'shape' () (-1,) (99999999999,) (1.5,) L
""".split(),
    b'\x93NUMPY', b'\x01\x00', b'\x02\x00', b'(3, 4)',
)  # fmt: skip

CSV = (
    *b"""
    , " "" ; label text nan inf 1e39 -0
""".split(),
    b'\r\n', b'\n', b'\r', b'\xef\xbb\xbf',
)  # fmt: skip

JSON_LINES = (
    *b"""
    "text" "label" : , { } [ ] null true NaN 1e999
""".split(),
    b'\n', b'"\\u0000"', b'"\\ud800"',
)  # fmt: skip

BODY = (
    *b"""
    "checkpoint" "support" "inputs" "labels" "query" "options" "learner" "task" "targets" "inner_steps" "seed"
    "plain" "words" "drawings" "quads" "model" "top_k" "return" "metadata" "ttl_seconds" "multitask"
    "regression" [ ] { } : , null true 1e39 [[1.0]] NaN
""".split(),
    b'"\\ud800"', b'"\\u0000"',
)  # fmt: skip

FORM = (
    *b"""
    --B name=" filename=" filename*= support[ ] query request " =?utf-8? %
""".split(),
    b'--B\r\n', b'--B--\r\n', b'\r\n', b'\r\n\r\n', b'Content-Disposition: form-data; ',
    b'Content-Transfer-Encoding: base64\r\n', b'Content-Type: ', b'\\',
)  # fmt: skip

BODY_TENSORS = (
    *b"""
    "F32" "F64" "BF16" "I64" "U8" "BOOL" "dtype" "shape" "data_offsets" "__metadata__" "header"
    "support.inputs" "support.targets" "query.inputs" [0,0] [] [2,4] [99999999,99999999] -1
""".split(),
)  # fmt: skip

HEADERS = (
    *b"""
    wait= respond-async W/" " * , ; = boundary= [::1] @ //
""".split(),
    b'Prefer: ', b'If-Match: ', b'Content-Type: ', b'Content-Length: ', b'Content-Encoding: gzip', b'Host: ',
    b'Origin: ', b'Cookie: kshot_session=', b'Sec-Fetch-Site: ', b'X-Kshot-Console: 1', b'\n', b'Retry-After: ',
)  # fmt: skip

TENSORS = (
    *b"""
    "F32" "F64" "F16" "BF16" "F8_E4M3" "I64" "U8" "BOOL" "dtype" "shape" "data_offsets" "__metadata__"
    "header" [0,0] [] [3] [2,2] [0,9223372036854775807] null {} -1
""".split(),
    b'\\"',
)  # fmt: skip

CHECKPOINT = (
    *TENSORS, *b"""
    "encoder" "options" "channels" "hidden" "name" "conv4" "mlp" "identity" "resnet12" "hierarchy" "mapped"
    "pretrained" "text" "image" "input" "modality" "vector" "width" "height" "norm" "levels" "path" "sha256"
    "learner" encoder. head.
""".split(),
)  # fmt: skip
