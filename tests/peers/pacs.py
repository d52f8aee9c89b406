"""An archive by pynetdicom that behaves as told: pacs.py TITLE PORT FOLDER BOX_PORT [MODE...]

Modes: refuse (C-STORE 0x0122), busy (0xA700 until FOLDER/free exists), same / new (commitment reported over the same association
or a new one), fail (the first commitment reports failures), never (takes requests, reports nothing), implicit (takes implicit VR
only), warn (stores with 0xB000), hang (never answers a C-STORE). Prints a line per event.
"""
import pathlib
import sys
import threading
import time

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.presentation import StoragePresentationContexts
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

title, port, folder, box = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3]), int(sys.argv[4])
modes = sys.argv[5:]
WELL_KNOWN = '1.2.840.10008.1.20.1.1'
commits = 0


def say(*words):
    print(*words, flush=True)


def free():
    return (folder / 'free').exists()


def on_store(event):
    if 'hang' in modes:
        say('hanging')
        time.sleep(600)
    if 'refuse' in modes and not free():
        return 0x0122
    if 'busy' in modes and not free():
        say('busy')
        return 0xA700
    ds = event.dataset
    ds.file_meta = event.file_meta
    ds.save_as(folder / f'{ds.SOPInstanceUID}.dcm', enforce_file_format=True)
    say('stored', ds.SOPInstanceUID, event.context.transfer_syntax)
    return 0xB000 if 'warn' in modes else 0


def report_on(request):
    global commits
    commits += 1
    report = Dataset()
    report.TransactionUID = request.TransactionUID
    kept, lost = [], []
    for item in request.ReferencedSOPSequence:
        there = (folder / f'{item.ReferencedSOPInstanceUID}.dcm').exists()
        if there and not ('fail' in modes and commits == 1):
            kept.append(item)
        else:
            item.FailureReason = 0x0112
            lost.append(item)
    if kept:
        report.ReferencedSOPSequence = kept
    if lost:
        report.FailedSOPSequence = lost
    return report, 2 if lost else 1


def send_report(assoc, report, kind):
    status, _ = assoc.send_n_event_report(report, kind, StorageCommitmentPushModel, WELL_KNOWN)
    say('reported', kind, hex(status.Status) if status else 'no answer')


def later(assoc, report, kind):
    time.sleep(0.3)
    if 'same' in modes:
        send_report(assoc, report, kind)
        return
    while assoc.is_established:
        time.sleep(0.05)
    ae = AE(ae_title=title)
    ae.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    back = ae.associate('127.0.0.1', box, ae_title='METWATCH', ext_neg=[role])
    if back.is_established:
        send_report(back, report, kind)
        back.release()
    else:
        say('rejected')


def on_action(event):
    request = event.action_information
    say('asked', len(request.ReferencedSOPSequence))
    if 'never' not in modes:
        report, kind = report_on(request)
        threading.Thread(target=later, args=(event.assoc, report, kind), daemon=True).start()
    return 0, None


ae = AE(ae_title=title)
ae.require_called_aet = True
syntaxes = ['1.2.840.10008.1.2'] if 'implicit' in modes else None
for context in StoragePresentationContexts:
    ae.add_supported_context(context.abstract_syntax, syntaxes)
ae.add_supported_context('1.2.840.10008.5.1.4.1.1.66.4', syntaxes)
ae.add_supported_context(Verification)
if {'same', 'new', 'never', 'fail'} & set(modes):
    ae.add_supported_context(StorageCommitmentPushModel)
handlers = [(evt.EVT_C_STORE, on_store), (evt.EVT_C_ECHO, lambda e: 0), (evt.EVT_N_ACTION, on_action)]
ae.start_server(('127.0.0.1', port), block=False, evt_handlers=handlers)
say('ready')
while True:
    time.sleep(60)
