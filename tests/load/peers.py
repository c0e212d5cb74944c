#!/usr/bin/env python3
"""Start one peer with a fresh store on a loopback port; used by matrix.py, or by hand:
  peers.py NAME PORT STOREDIR   (runs until killed; prints the pid)
All but orth10, orth12, storescp (pure defaults) run with DCMTK env TCP_NODELAY=1.
Names: orth10, orth10t, orth12, orth12t (tuned), orth12n (tuned, no file fsync), storescp, storescpB (bit
preserving), storescpF (fork), dcmqrscp, pnd_storescp, pnd_qrscp, yunying (this repository: .venv/bin/yunying serve;
matrix.py --names yunying,yunying:LABEL:/another/checkout compares two states of it;
YUNYING_DATABASE_URL, YUNYING_OBJECTS_URL … pass through)."""
import json, os, socket, subprocess, sys, time, shutil, signal
HERE = os.path.dirname(os.path.abspath(__file__)); ROOT = os.path.dirname(os.path.dirname(HERE)); HOME = os.environ.get('BENCH_HOME', os.path.expanduser('~/.cache/yunying-bench'))
PY = f'{HOME}/venv/bin/python'; TRX = f'{HOME}/trixie'

def orthanc_cfg(port, d, tuned, sync=True, web=False, http=None):
    c = dict(Name='B', StorageDirectory=d, IndexDirectory=d, HttpPort=http or port + 1000, DicomPort=port, DicomAet='ORTHANC',
             RemoteAccessAllowed=False, AuthenticationEnabled=False, DicomAlwaysAllowFind=True, DicomAlwaysAllowGet=True, DicomCheckCalledAet=False,
             Plugins=['/usr/share/orthanc/plugins/libOrthancDicomWeb.so'] if web else [], DicomServerEnabled=True, OrthancExplorerEnabled=False)
    if web: c['DicomWeb'] = dict(Enable=True, Root='/dicom-web/', EnableWado=True, StudiesMetadata='MainDicomTags' if web == 'main' else 'Full', SeriesMetadata='MainDicomTags' if web == 'main' else 'Full',
                                 EnableMetadataCache=True)
    if tuned: c.update(MaximumPduLength=131072, DicomThreadsCount=16, StoreMD5ForAttachments=False, SaveJobs=False, ConcurrentJobs=4,
                       OverwriteInstances=False, SyncStorageArea=sync, HttpThreadsCount=50, TcpNoDelay=True, MaximumStorageCacheSize=512, KeepAlive=True)
    return c

def aet(name): return 'YUNYING' if name == 'yunying' else 'ORTHANC' if name[0] == 'o' else 'ANY'

def start(name, port, d, web=False, extra=()):
    shutil.rmtree(d, ignore_errors=True); os.makedirs(d)
    env = dict(os.environ, DCMDICTPATH='/usr/share/libdcmtk17/dicom.dic'); pre = []
    if name not in ('orth10', 'orth12', 'storescp'): env['TCP_NODELAY'] = '1'   # DCMTK leaves Nagle on by default (40 ms stalls)
    if name.startswith('orth'):
        cfg = orthanc_cfg(port, d, tuned=name[6:7] in 'tn' and len(name) > 6, sync=name[6:7] != 'n', web=web)
        if name.startswith('orth12'):
            pre = ['chroot', TRX]; dd = TRX + d; shutil.rmtree(dd, ignore_errors=True); os.makedirs(dd); os.makedirs(TRX + '/dev', exist_ok=True)
            json.dump(cfg, open(dd + '.json', 'w')); env.pop('DCMDICTPATH')
        else: json.dump(cfg, open(d + '.json', 'w'))
        cmd = pre + ['/usr/sbin/Orthanc', d + '.json']
    elif name == 'yunying':
        cmd = [f'{extra[0] if extra else ROOT}/.venv/bin/yunying', 'serve', '--data', d, '--dicom', f'127.0.0.1:{port}', '--http', f'127.0.0.1:{port + 1000}']
    elif name.startswith('storescp'):
        cmd = ['storescp', '-od', d, '--max-pdu', '131072'] + (['-B'] if name[8:9] == 'B' else []) + (['--fork'] if name.endswith('F') else []) + [str(port)]
    elif name.startswith('dcmqrscp'):
        open(d + '.cfg', 'w').write(f'NetworkTCPPort = {port}\nMaxPDUSize = 131072\nMaxAssociations = 16\nHostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n'
                                    f'AETable BEGIN\nANY {d} RW (5000, 20gb) ANY\nAETable END\n')
        cmd = ['dcmqrscp', '-c', d + '.cfg', '--max-pdu', '131072'] + (['--bit-preserving'] if name.endswith('B') else [])
    elif name == 'pnd_storescp':
        cmd = [PY, '-m', 'pynetdicom', 'storescp', str(port), '-od', d, '--max-pdu', '131072']
    elif name == 'pnd_qrscp':
        open(d + '.ini', 'w').write(f'[DEFAULT]\nae_title: ANY\nport: {port}\nmax_pdu: 131072\nacse_timeout: 30\ndimse_timeout: 30\nnetwork_timeout: 60\nbind_address: 127.0.0.1\ninstance_location: {d}/i\ndatabase_location: {d}/db.sqlite\n')
        cmd = [PY, '-m', 'pynetdicom', 'qrscp', '-c', d + '.ini']
    else: raise SystemExit(name)
    p = subprocess.Popen(cmd, env=env, stdin=subprocess.DEVNULL, stdout=open(d + '.log', 'w'), stderr=subprocess.STDOUT, start_new_session=True)
    for _ in range(200):
        try: socket.create_connection(('127.0.0.1', port), .2).close(); break
        except OSError:
            if p.poll() is not None: raise SystemExit(f'{name} died: ' + open(d + '.log').read()[-800:])
            time.sleep(.1)
    if web:
        import urllib.request
        for _ in range(100):
            try: urllib.request.urlopen(f'http://127.0.0.1:{port + 1000}/' + ('healthz' if name == 'yunying' else 'system')).read(); break
            except OSError: time.sleep(.1)
    if name == 'yunying': spares(d)
    time.sleep(.3); return p

def spares(d, longest=60):
    """Wait until the segments written ahead are there: a server that has run for a minute has them."""
    import glob
    had, same, end = -1, 0, time.time() + longest
    while same < 3 and time.time() < end:
        have = len(glob.glob(d + '/journal/*.spare')); busy = glob.glob(d + '/journal/*.writing')
        same = same + 1 if have == had and not busy else 0; had = have; time.sleep(.5)

def stop(p, d=None):
    try: os.killpg(p.pid, signal.SIGTERM)
    except ProcessLookupError: pass
    try: p.wait(15)
    except subprocess.TimeoutExpired: os.killpg(p.pid, signal.SIGKILL); p.wait()
    if d:
        for q in (d, TRX + d): shutil.rmtree(q, ignore_errors=True)

if __name__ == '__main__':
    p = start(sys.argv[1], int(sys.argv[2]), os.path.abspath(sys.argv[3]), web='--web' in sys.argv); print(p.pid, flush=True)
    try: p.wait()
    except KeyboardInterrupt: stop(p)
