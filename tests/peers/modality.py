"""A modality by pynetdicom: modality.py BOX_PORT FOLDER same|new [REPORT_PORT]

Stores a folder, asks for its commitment and that of one object which was never sent, waits for the report, and prints
`report EVENT kept N failed UID:REASON`. With `new` it hears the report on REPORT_PORT; with `ask` it only asks.
"""
import pathlib
import queue
import sys

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel

box, folder, how = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
reports = queue.Queue()


def on_report(event):
    reports.put((event.request.EventTypeID, event.event_information))
    return 0, None


def listen():
    ae = AE(ae_title='CT1')
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    return ae.start_server(('127.0.0.1', int(sys.argv[4])), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)])


def show(timeout):
    event, report = reports.get(timeout=timeout)
    failed = [f'{i.ReferencedSOPInstanceUID}:{i.FailureReason:#06x}' for i in report.get('FailedSOPSequence', [])]
    print('report', event, 'kept', len(report.get('ReferencedSOPSequence', [])), 'failed', *failed, flush=True)


if how == 'hear':
    listen()
    print('listening', flush=True)
    show(60)
    sys.exit(0)
server = listen() if how == 'new' else None
ae = AE(ae_title='CT1')
ae.add_requested_context(CTImageStorage, '1.2.840.10008.1.2.1')
ae.add_requested_context(StorageCommitmentPushModel)
handlers = [(evt.EVT_N_EVENT_REPORT, on_report)]
assoc = ae.associate('127.0.0.1', box, ae_title='METWATCH', evt_handlers=handlers)
assert assoc.is_established
request = Dataset()
request.TransactionUID = generate_uid()
items = []
for file in sorted(folder.iterdir()):
    ds = pydicom.dcmread(file)
    assert assoc.send_c_store(ds).Status == 0
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    items.append(item)
lost = Dataset()
lost.ReferencedSOPClassUID, lost.ReferencedSOPInstanceUID = CTImageStorage, '1.2.3.4.5'
other = Dataset()
other.ReferencedSOPClassUID, other.ReferencedSOPInstanceUID = '1.2.840.10008.5.1.4.1.1.4', items[0].ReferencedSOPInstanceUID
request.ReferencedSOPSequence = items + [lost, other]
status, _ = assoc.send_n_action(request, 1, StorageCommitmentPushModel, '1.2.840.10008.1.20.1.1')
print('answered', hex(status.Status), flush=True)
if how == 'same':
    show(20)
assoc.release()
if how == 'new':
    show(20)
