//! The storage and commitment SCP: listening, limits, a thread per association (dicom.md section 1).
//!
//! An object is walked, its header read and its bytes handed to the [`Sink`] before the sender hears "success": 0x0000 is our
//! promise that it survives. Limits: connections, associations, PDU length, object size, bytes in flight, deadlines and a
//! minimum rate.

use super::Config;
use super::link::{Incoming, Link, LinkError};
use super::negotiate::{Agreed, negotiate, peer_pdu_max};
use super::sink::{AssociationEnd, HowEnded, Sink};
use super::talk::Talk;
use super::tls::{TlsError, server_config};
use dicom_ul::pdu::{
    AssociationRJ, AssociationRJResult, AssociationRJServiceProviderPresentationReason as Congestion,
    AssociationRJSource, AssociationRQ, Pdu,
};
use rustls::{ServerConfig, ServerConnection};
use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// Connections beyond the associations: those that have not said who they are, and those that are told to come back later.
/// A slow one holds its place for the time of establishing and takes a thread's stack, some 20 KiB.
const WAITING_MAX: usize = 512;
/// After the stop flag, a message under way may take this long.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// A port that is listened on.
pub struct Door {
    /// The listening socket.
    pub listener: TcpListener,
    /// Whether it speaks TLS, with the certificates of [`Config::tls`].
    pub tls: bool,
}

/// Receives until `stop` is set; then takes no more connections, lets messages under way end and returns. Blocks.
pub fn serve(doors: Vec<Door>, config: Config, sink: Arc<dyn Sink>, stop: Arc<AtomicBool>) -> Result<(), ServeError> {
    let tls = match (&config.tls, doors.iter().any(|d| d.tls)) {
        (Some(tls), true) => Some(server_config(tls)?),
        (None, true) => return Err(TlsError::NotConfigured { what: "a port".into(), missing: "dicom.tls" }.into()),
        (_, false) => None,
    };
    for door in &doors {
        door.listener.set_nonblocking(true)?;
        info!(listen = ?door.listener.local_addr(), tls = door.tls, ae_title = %config.ae_title, "waiting for associations");
    }
    let places = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let [connections, associations] = places;
    let server = Arc::new(Server { config, sink, stop, tls, associations, in_flight: AtomicU64::new(0) });
    let limit = usize::from(server.config.associations_max) + WAITING_MAX;
    let mut number = 0;
    while !server.is_stopping() {
        server.sink.waiting();
        let mut idle = true;
        for door in &doors {
            let (socket, peer) = match door.listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                // A peer that went away while it waited, or no file descriptor for the moment.
                Err(error) => {
                    warn!(%error, "accepting a connection failed");
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            idle = false;
            number += 1;
            let Some(place) = Place::take(&connections, limit) else {
                warn!("too many connections: one was closed");
                continue;
            };
            let (server, tls) = (Arc::clone(&server), door.tls);
            let work = move || {
                let _place = place;
                server.attend(socket, peer, tls, number);
            };
            if let Err(error) = std::thread::Builder::new().name(format!("dicom-{number}")).spawn(work) {
                warn!(%error, "no thread for an association");
            }
        }
        if idle {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let deadline = Instant::now() + STOP_GRACE + Duration::from_secs(2);
    while connections.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Why nothing can be received.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The listening socket.
    #[error("listening failed")]
    Listen(#[from] io::Error),
}

/// A place among a limited number; given back when dropped, also by a panic.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(counter: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let taken = Self(Arc::clone(counter));
        // Over the limit, `taken` gives it back.
        (counter.fetch_add(1, Ordering::Relaxed) < limit).then_some(taken)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all associations share.
pub struct Server {
    pub config: Config,
    pub sink: Arc<dyn Sink>,
    stop: Arc<AtomicBool>,
    tls: Option<Arc<ServerConfig>>,
    associations: Arc<AtomicUsize>,
    /// Bytes of data sets that are just being received, over all associations.
    pub in_flight: AtomicU64,
}

impl Server {
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// A link with its TLS handshake made.
    fn link(&self, socket: TcpStream, tls: bool, deadline: Instant) -> io::Result<Link> {
        let tls = match &self.tls {
            Some(config) if tls => Some(ServerConnection::new(config.clone()).map_err(io::Error::other)?.into()),
            _ => None,
        };
        let idle = Duration::from_secs(u64::from(self.config.idle_s.max(1)));
        let mut link = Link::new(socket, tls, idle, self.config.pdu_bytes_max.clamp(4096, 1 << 20))?;
        link.handshake(deadline)?;
        Ok(link)
    }

    fn request(&self, link: &mut Link, deadline: Instant) -> Option<AssociationRQ> {
        match link.receive(Some(deadline), &|| self.is_stopping()) {
            Ok(Incoming::Control(pdu)) => match *pdu {
                Pdu::AssociationRQ(request) => Some(request),
                _ => None,
            },
            Ok(_) => None,
            Err(error) => {
                debug!(%error, "no association was requested");
                None
            }
        }
    }

    /// One connection from its first byte to its end.
    fn attend(&self, socket: TcpStream, peer: SocketAddr, tls: bool, number: u64) {
        let deadline = Instant::now() + Duration::from_secs(u64::from(self.config.establish_s.max(1)));
        let mut link = match self.link(socket, tls, deadline) {
            Ok(link) => link,
            Err(error) => return warn!(%peer, %error, "a TLS handshake failed"),
        };
        let Some(request) = self.request(&mut link, deadline) else { return link.abort() };
        let reject = |mut link: Link, result, source| {
            let _ = link.send(&Pdu::AssociationRJ(AssociationRJ { result, source }));
            link.close();
        };
        let Some(_place) = Place::take(&self.associations, self.config.associations_max.into()) else {
            warn!(limit = self.config.associations_max, "an association was refused: all are in use");
            let source = AssociationRJSource::ServiceProviderPresentation(Congestion::LocalLimitExceeded);
            return reject(link, AssociationRJResult::Transient, source);
        };
        let names = link.peer_names();
        let Agreed { caller, called_ae, contexts, answer } =
            match negotiate(&request, &self.config, peer.ip(), names.as_deref()) {
                Ok(agreed) => agreed,
                Err(reason) => {
                    let calling_ae = request.calling_ae_title.escape_debug();
                    warn!(%peer, %calling_ae, %reason, "an association was refused");
                    return reject(link, AssociationRJResult::Permanent, AssociationRJSource::ServiceUser(reason));
                }
            };
        if link.send(&Pdu::AssociationAC(answer)).is_err() {
            return;
        }
        info!(association = number, calling_ae = %caller.ae_title, contexts = contexts.len(), tls, "association established");
        let peer_pdu_max = peer_pdu_max(&request.user_variables);
        let (series, objects, reported) = (BTreeSet::new(), 0, None);
        self.talk(Talk {
            server: self,
            link,
            contexts,
            peer_pdu_max,
            number,
            peer,
            caller,
            called_ae,
            series,
            objects,
            reported,
        });
    }

    /// An established association to its end.
    fn talk(&self, mut talk: Talk<'_>) {
        let ended = talk.run();
        let Talk { link, caller, series, objects, number, .. } = talk;
        let how = match &ended {
            Ok(how) => *how,
            Err(LinkError::TimedOut(_)) => HowEnded::TimedOut,
            Err(_) => HowEnded::Aborted,
        };
        if objects > 0 && how != HowEnded::Released {
            // What was answered with success is kept, however the association ends.
            if let Err(failure) = self.sink.settle(number) {
                warn!(association = number, sentence = failure.sentence, "what came could not be kept");
            }
        }
        match ended {
            Ok(HowEnded::Released | HowEnded::Aborted) => link.close(),
            Ok(_) => link.abort(),
            Err(error) => {
                warn!(association = number, %error, "an association was broken off");
                link.abort();
            }
        }
        info!(association = number, objects, ?how, "association over");
        if objects > 0 {
            let series = series.into_iter().collect();
            let calling_ae = caller.ae_title;
            self.sink.association_released(AssociationEnd { association: number, calling_ae, series, how });
        }
    }
}
