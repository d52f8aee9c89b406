"""Orthanc as modality and archive: orthanc.py FOLDER DICOM_PORT HTTP_PORT BOX_PORT

Starts Orthanc, gives it the objects of FOLDER/ct, has it send them to the box and ask for their commitment, and then waits for an
object that the box sends. Prints a line per step.
"""
import ctypes
import json
import pathlib
import subprocess
import sys
import time
import urllib.request

folder, dicom, http, box = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:5])
storage = folder / 'orthanc'
storage.mkdir()
(folder / 'orthanc.json').write_text(json.dumps({
    'StorageDirectory': str(storage), 'IndexDirectory': str(storage), 'DicomAet': 'ORTHANC', 'DicomPort': dicom, 'HttpPort': http,
    'AuthenticationEnabled': False, 'RemoteAccessAllowed': False, 'DicomAlwaysAllowStore': False,
    'DicomModalities': {'box': {'AET': 'METWATCH', 'Host': '127.0.0.1', 'Port': box, 'AllowStorageCommitment': True}},
}))


def ask(path, body=None):
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f'http://127.0.0.1:{http}{path}', data), timeout=30) as answer:
        return json.loads(answer.read() or b'null')


def wait(what, until):
    for _ in range(600):
        try:
            found = until()
            if found:
                return found
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f'{what} did not happen')


# 1 is PR_SET_PDEATHSIG: Orthanc ends with this script, however that ends.
program = subprocess.Popen(['Orthanc', str(folder / 'orthanc.json')], stderr=(folder / 'orthanc.log').open('w'),
                           preexec_fn=lambda: ctypes.CDLL(None).prctl(1, 9))
try:
    wait('the start of Orthanc', lambda: ask('/system'))
    own = [ask('/instances', file.read_bytes())['ID'] for file in sorted((folder / 'ct').iterdir())]
    print('ready', flush=True)
    if sys.stdin.readline().strip() != 'go':
        sys.exit('no go')
    print('sent', ask('/modalities/box/store', own)['FailedInstancesCount'], 'failed', flush=True)
    uids = [[i['MainDicomTags']['SOPInstanceUID'] for i in [ask(f'/instances/{one}')]][0] for one in own]
    asked = ask('/modalities/box/storage-commitment', {'DicomInstances': [['1.2.840.10008.5.1.4.1.1.2', u] for u in uids + ['1.2.3']]})
    path = f"/storage-commitment/{asked['ID']}"
    wait('the report', lambda: ask(path)['Status'] != 'Pending')
    report = ask(path)
    print('committed', report['Status'], len(report.get('Success', [])), [f['Description'] for f in report.get('Failures', [])], flush=True)
    def kinds():
        return sorted({ask(f'/instances/{one}/simplified-tags')['Modality'] for one in set(ask('/instances')) - set(own)})
    wait('every kind of result from the box', lambda: len(kinds()) == 4)
    print('received', kinds(), flush=True)
    sys.stdin.readline()
finally:
    program.kill()
    program.wait()
