"""Pickles that no checkpoint has, each with a part of the answer: files that would act, grow or go on for ever."""

import io
import pickle
import struct
import zipfile

BASE = 2**61 - 1  # whose multiples Python hashes to 0


def text(value):
    """Return the code of a text."""
    data = value.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def name(module, attribute):
    return f'c{module}\n{attribute}\n'.encode()


def long(value):
    data = value.to_bytes(value.bit_length() // 8 + 1, 'little', signed=True)
    return b'\x8a' + bytes([len(data)]) + data


def whole(value):
    return b'J' + struct.pack('<i', value) if -(2**31) <= value < 2**31 else long(value)


def sizes(*values):
    return b'(' + b''.join(map(whole, values)) + b't'


def storage(count=4, kind=b'ctorch\nFloatStorage\n', key='0'):
    return b'(' + text('storage') + kind + text(key) + text('cpu') + whole(count) + b'tQ'


STORAGE = storage()


def tensor(storage=STORAGE, offset=0, shape=(4,), stride=(1,), more=b''):
    """Return the code of a tensor."""
    arguments = b'(' + storage + whole(offset) + sizes(*shape) + sizes(*stride) + b'\x89}' + more + b't'
    return name('torch._utils', '_rebuild_tensor_v2') + arguments + b'R'


def array(code='f8', shape=(1,), data=b'C\x08' + bytes(8)):
    """Return the code of an array; its data are bytes, as Python 2 wrote them."""
    state = b'(K\x03' + text('<') + b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'
    kind = name('numpy', 'dtype') + b'(' + text(code) + b'\x89\x88tR' + state
    new = name('numpy.core.multiarray', '_reconstruct') + name('numpy', 'ndarray') + b'K\x00\x85C\x01b\x87R'
    return new + b'(K\x01' + sizes(*shape) + kind + b'\x89' + data + b'tb'


def doubled(start, double, times):
    """Return the code of a value that holds the one before twice, and so on."""
    return start + b'q\x000' + (b'h\x00h\x00' + double + b'q\x000') * times + b'h\x00'


def nested_encode(times):
    code = text('\xe9' * 100)
    for _ in range(times):
        code = name('_codecs', 'encode') + code + text('unicode_escape') + b'\x86R'
    return code


COUNTER = name('collections', 'Counter')
HISTORY = name('mmengine.logging.history_buffer', 'HistoryBuffer') + b')\x81}'
LATIN_1 = name('_codecs', 'encode') + b'h\x00' + text('latin1') + b'\x86R'
LAUGH = b'0}' + text('a') + b'h\x00s' + text('b') + b'h\x00sq\x00'
ONE_HASH = b''.join(long(i * BASE) for i in range(2, 50_000))
RUN = '{ran}'
MKDIR = text(RUN) + b'\x85'
ACTS = 'holds more than weights and plain data'
DAMAGED = 'is damaged'
LARGE = 'far more than it has bytes'
# The value of a key, and what is answered.
PICKLES = {
    'GLOBAL': (name('os', 'mkdir') + MKDIR + b'R', ACTS),
    'GLOBAL in torch': (name('torch.hub', 'load') + MKDIR + b'R', ACTS),
    'GLOBAL with dots': (name('torch', '_utils.os.mkdir') + MKDIR + b'R', ACTS),
    'GLOBAL by an allowed module': (name('collections', '_sys.modules') + b'.', ACTS),
    'GLOBAL without an end': (b'c' + b'a' * 5000, DAMAGED),
    'STACK_GLOBAL': (text('os') + text('mkdir') + b'\x93' + MKDIR + b'R', ACTS),
    'STACK_GLOBAL of a list': (b']' + text('mkdir') + b'\x93', DAMAGED),
    'INST': (b'(' + text(RUN) + b'ios\nmkdir\n', "operation b'i'"),
    'OBJ': (b'(' + name('os', 'mkdir') + text(RUN) + b'o', ACTS),
    'OBJ of an allowed name': (b'(' + name('collections', 'Counter') + b'o', "operation b'o'"),
    'NEWOBJ': (name('subprocess', 'Popen') + MKDIR + b'\x81', ACTS),
    'NEWOBJ_EX': (name('collections', 'Counter') + b')}\x92', "operation b'\\x92'"),
    'REDUCE of a text': (text('os.mkdir') + MKDIR + b'R', 'it calls a str'),
    'REDUCE of what was built': (name('collections', 'OrderedDict') + b')R' + MKDIR + b'R', 'it calls a OrderedDict'),
    'REDUCE without a tuple': (name('collections', 'Counter') + b']R', 'it calls a Name'),
    'getattr': (name('builtins', 'getattr') + name('numpy', 'ndarray') + text('tofile') + b'\x86R', ACTS),
    'eval': (name('builtins', 'eval') + text('__import__("os").mkdir("{ran}")') + b'\x85R', ACTS),
    'BUILD of a dict': (b'}}' + text('__class__') + b'Nsb', 'it changes a dict'),
    'BUILD of an ordered dict': (name('collections', 'OrderedDict') + b')R}' + text('keys') + b'Nsb', None),
    'BUILD with __setstate__': (COUNTER + b')R}' + text('__setstate__') + b'Nsb', 'it changes a Counter'),
    'BUILD of a tensor': (tensor() + b')b', 'it changes a Tensor'),
    'EXT1': (b'\x82\x01', "operation b'\\x82'"),
    'PERSID': (b'Pos\n', "operation b'P'"),
    'persistent module': (b'(' + text('module') + name('torch.nn.modules.linear', 'Linear') + b'NNtQ', ACTS),
    'persistent text': (text('storage') + b'Q', 'persistent object that is no storage'),
    'a function as value': (name('torch._utils', '_rebuild_tensor_v2'), ACTS),
    'a storage as value': (storage(), 'bare storage'),
    'log history with a method': (HISTORY + text('statistics_methods') + name('os', 'mkdir') + b'sb', ACTS),
    'log history of text': (HISTORY + text('_log_history') + text('x') + b'sb', 'a log history of it is damaged'),
    'contains itself': (b'}q\x01' + text('state_dict') + b'h\x01s', 'contains itself'),
    'a list in itself': (b']q\x01h\x01a', 'contains itself'),
    'a tuple in itself': (b']q\x01(h\x01ta0h\x01', 'contains itself'),
    'billion laughs of lists': (b']q\x00' + b'0](h\x00h\x00eq\x00' * 60, 'repeats its parts'),
    'billion laughs of tuples': (doubled(b')', b'\x86', 60), 'repeats its parts'),
    'billion laughs of dicts': (b'}q\x00' + LAUGH * 60, 'repeats its'),
    'a long text often': (text('x' * 10**6) + b'q\x000(' + b'h\x00' * 10**5 + b't', 'repeats its parts'),
    'a tuple of tuples as key': (b'}' + doubled(b')', b'\x86', 60) + b'Ns', 'for a key'),
    'a tuple of tuples in a set': (b'\x8f(' + doubled(b')', b'\x86', 60) + b'\x90', 'for a key'),
    'a list as key': (b'}]Ns', 'for a key'),
    'keys of one hash': (b'}(' + b''.join(long(i * BASE) + b'N' for i in range(2, 50_000)) + b'u', 'for a key'),
    'keys of one hash in a set': (
        name('builtins', 'set') + b'](' + ONE_HASH + b'e\x85R',
        'members that checkpoints do',
    ),
    'tuples of one hash': (b'}(' + b''.join(whole(i) + b'\x85N' for i in range(10_002)) + b'u', 'tuples for keys'),
    'nested lists': (b']' * 100_000 + b'a' * 99_999, 'nested'),
    'nested tuples': (b')' + b'\x85' * 100_000, 'nested'),
    'nested encode': (nested_encode(30), 'encodes something'),
    'encode to UTF-32': (name('_codecs', 'encode') + text('x' * 1000) + text('utf-32') + b'\x86R', 'encodes something'),
    'encode often': (text('x' * 10**6) + b'q\x000(' + LATIN_1 * 1000 + b't', LARGE),
    'sets': (b'(' + b'\x8f' * 10**6 + b't', LARGE),
    'ordered dicts': (b'(' + (name('collections', 'OrderedDict') + b')R') * 300_000 + b't', LARGE),
    'bytearray of a size': (name('builtins', 'bytearray') + whole(2**31 - 1) + b'\x85R', 'encodes something'),
    'bytes of a size': (name('builtins', 'bytes') + whole(2**31 - 1) + b'\x85R', DAMAGED),
    'range': (name('builtins', 'range') + whole(2**31 - 1) + b'\x85R', ACTS),
    'LONG4': (b'\x8b' + struct.pack('<i', 2**31 - 1), "operation b'\\x8b'"),
    'FRAME': (b'\x95' + struct.pack('<Q', 2**63) + b'N', None),
    'BINBYTES8': (b'\x8e' + struct.pack('<Q', 2**62), 'cut short'),
    'BYTEARRAY8': (b'\x96' + struct.pack('<Q', 2**40), 'cut short'),
    'BINUNICODE8': (b'\x8d' + struct.pack('<Q', 2**40), 'cut short'),
    'BINUNICODE': (b'X' + struct.pack('<I', 2**32 - 1), 'cut short'),
    'memo': (b''.join(b'Nr' + struct.pack('<I', 2**31 + i) + b'0' for i in range(1_500_000)) + b'N', LARGE),
    'many steps': (b'N' + b'0N' * 2_500_001, 'steps to read'),
    'marks': (b'(' * 5_100_000, 'steps to read'),
    'no stack': (b'0' * 9, DAMAGED),
    'below a mark': (b'(\x86', DAMAGED),
    'unknown memo': (b'h\x63', DAMAGED),
    'expand': (tensor(shape=(10**9, 10**3), stride=(0, 0)), LARGE),
    'expand of none': (tensor(storage(0, key='1'), shape=(10**9,), stride=(0,)), 'beyond its storage'),
    'views': (b'(' + tensor(storage(4), shape=(10**6,), stride=(0,)) * 40 + b't', LARGE),
    'larger than its storage': (tensor(shape=(5,)), 'beyond its storage'),
    'behind its storage': (tensor(offset=1), 'beyond its storage'),
    'negative offset': (tensor(offset=-1), 'no whole number'),
    'negative stride': (tensor(shape=(2,), stride=(-1,)), 'no whole number'),
    'negative size': (tensor(shape=(-1,)), 'no whole number'),
    'size of 2**70': (tensor(shape=(2**70,)), 'no whole number'),
    'product of sizes': (tensor(shape=(2**40,) * 3, stride=(0, 0, 0)), LARGE),
    'size that is true': (tensor(shape=()).replace(sizes(), b'\x88\x85', 1), 'no whole number'),
    'fewer strides': (tensor(shape=(1, 1)), 'other numbers of sizes'),
    'many dimensions': (tensor(shape=(1,) * 64, stride=(1,) * 64), 'other numbers of sizes'),
    'no storage': (tensor(storage=b'N'), 'of a kind'),
    'missing storage': (tensor(storage(key='9')), 'is missing'),
    'storage of another place': (tensor(storage(key='../data.pkl')), 'is missing'),
    'large storage': (tensor(storage(2**40)), 'cut short'),
    'negative storage': (tensor(storage(-4)), 'of a kind'),
    'quantised': (tensor(storage(kind=b'ctorch\nQInt8Storage\n')), ACTS),
    'sparse': (name('torch._utils', '_rebuild_sparse_tensor') + b')R', ACTS),
    'meta tensor': (name('torch._utils', '_rebuild_meta_tensor_no_storage') + b')R', ACTS),
    'type of text': (array('U500000000', (0,)), 'of the type'),
    'type of objects': (array('O8'), 'of the type'),
    'type of fields': (array('f8,f8'), 'of the type'),
    'type of an array': (array('(99999,99999)f8'), 'of the type'),
    'array of other bytes': (array(shape=(10**9,)), 'more or fewer values'),
    'array of no width': (array('U0', (2**40,), b'C\x00'), None),
    'array of negative shape': (array(shape=(-1,)), 'no whole number'),
    'device': (name('torch', 'device') + text('x' * 10**5) + b'\x85R', 'a device of it is none'),
    'size of text': (name('torch', 'Size') + text('x') + b'\x85\x85R', 'no whole number'),
}


def write(path, value, data=bytes(16), wrap=True):
    """Write a file of ``torch.save`` whose one value this code makes."""
    code = b'\x80\x02' + (b'}' + text('x') + value + b's.' if wrap else value + b'.')
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', code)
        archive.writestr('archive/byteorder', b'little')
        archive.writestr('archive/data/0', data)
        archive.writestr('archive/data/1', b'')


def older(value, storages=b'', keys=b']'):
    """Return a file as torch wrote them before 1.6."""
    parts = [pickle.dumps(number, 2) for number in (0x1950A86A20F9469CFC6C, 1001, {})]
    return b''.join(parts) + b'\x80\x02}' + text('x') + value + b's.\x80\x02' + keys + b'.' + storages


def older_storage(count, view=b'N', key='0'):
    return b'(' + text('storage') + b'ctorch\nFloatStorage\n' + text(key) + text('cpu') + whole(count) + view + b'tQ'


ONE = tensor(older_storage(1), shape=(1,))
MANY = b''.join(older_storage(99, key=str(i)) for i in range(99))
VIEW = b'(' + text('v') + whole(3) + whole(2) + b't'
OLDER = {
    'acts': (older(name('os', 'mkdir') + MKDIR + b'R'), ACTS),
    'storage larger than the file': (older(tensor(older_storage(2**40))), 'larger than the file'),
    'many storages': (older(b'(' + MANY + b't'), 'larger than the file'),
    'no storages': (older(ONE), 'is missing'),
    'cut': (older(ONE, struct.pack('<q', 1), b']' + text('0') + b'a'), 'cut short'),
    'other size': (older(ONE, struct.pack('<q', 2), b']' + text('0') + b'a'), 'another size'),
    'keys of tuples': (older(b'N', b'', b']' + doubled(b')', b'\x86', 60) + b'a'), 'repeats its parts'),
    'view beyond': (older(tensor(older_storage(4, VIEW))), 'lies beyond another'),
    'bare pickle': (pickle.dumps(dict(a=1), 2), 'is damaged'),
    'tar': (b'./././@LongLink' + bytes(600), 'is damaged'),
    'text': (b'no checkpoint', 'is damaged'),
    'nothing': (b'', 'is damaged'),
}


def zipped(change):
    """Return a zip file of a good checkpoint, changed."""
    buffer = io.BytesIO()
    write(buffer, tensor())
    return change(buffer.getvalue())


def twice(data):
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, 'a') as archive:
        archive.writestr('archive/data/0', bytes(16))
    return buffer.getvalue()


def with_field(place, form, value, entry=-1):
    """Return a change of a number in an entry of the table of contents."""

    def change(data):
        at = [i for i in range(len(data)) if data.startswith(b'PK\x01\x02', i)][entry] + place
        return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]

    return change


def many(data):
    entry = data[data.index(b'PK\x01\x02') :][:46]
    entry = entry[:28] + bytes(18)
    directory = entry * 600_000
    end = struct.pack('<4sHHHHIIH', b'PK\x05\x06', 0, 0, 1, 1, len(directory), len(data), 0)
    return data + directory + end


def deflated(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data.pkl', b'\x80\x02N.' * 100)
    return buffer.getvalue()


ZIPS = {
    'a part twice': (zipped(twice), 'has a part twice'),
    'an empty part within another': (zipped(with_field(42, '<I', 0)), None),
    'a part over the table': (zipped(with_field(20, '<Q', 200 | 200 << 32)), 'overlap'),
    'a size of 4 GB': (zipped(with_field(20, '<Q', 0xFFFFFFFE | 0xFFFFFFFE << 32)), 'overlap'),
    'a size of 64 bits that is not there': (zipped(with_field(20, '<Q', 2**64 - 1)), 'overlap'),
    'another packed size': (zipped(with_field(20, '<I', 3)), 'packed'),
    'packed': (zipped(with_field(10, '<H', 8)), 'packed'),
    'packed by zip': (zipped(deflated), 'packed'),
    'encrypted': (zipped(with_field(8, '<H', 1)), 'encrypted'),
    'a header elsewhere': (zipped(with_field(42, '<I', 7)), 'a part of it is missing'),
    'a long name': (zipped(with_field(28, '<H', 65535)), None),
    'many parts': (zipped(many), 'is damaged'),
    'cut': (zipped(lambda data: data[:-40]), 'is damaged'),
    'a comment': (zipped(lambda data: data + b'x' * 30), None),
    'a part within others': (zipped(with_field(20, '<Q', 400 | 400 << 32, 0)), 'overlap'),
    'another place of the table': (zipped(lambda data: data[:-6] + b'\x00\x00\x00\x00\x00\x00'), 'is damaged'),
    '64 bits without a table': (zipped(lambda data: data[:-6] + b'\xff\xff\xff\xff\x00\x00'), 'is damaged'),
    'no torch file': (zipped(lambda data: data.replace(b'data.pkl', b'date.pkl')), 'none of torch.save'),
}
