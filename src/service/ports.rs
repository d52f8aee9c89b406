//! Who listens on a port of this machine.

use std::net::{SocketAddr, TcpListener};

/// Whether it can be listened on now.
pub fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

/// The program that listens on an address, as `name (process 17)`; `None` where none does, or this user may not know.
pub fn user(address: SocketAddr) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let inodes: Vec<String> = tables.iter().flat_map(|table| listeners(table, address.port())).collect();
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in std::fs::read_dir("/proc").ok()?.filter_map(Result::ok) {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let handles = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().filter_map(Result::ok);
        let holds = |handle: std::fs::DirEntry| {
            std::fs::read_link(handle.path()).is_ok_and(|to| links.iter().any(|l| *l == *to.to_string_lossy()))
        };
        if handles.into_iter().any(holds) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {pid})", name.trim()));
        }
    }
    None
}

/// Inodes of the sockets in state LISTEN (0A) on a port, from `/proc/net/tcp` (proc(5)).
fn listeners(table: &str, port: u16) -> Vec<String> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, hex) = fields.get(1)?.rsplit_once(':')?;
        let fits = u16::from_str_radix(hex, 16).ok()? == port && *fields.get(3)? == "0A";
        fits.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    };
    table.lines().skip(1).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_the_kernel_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:2B68 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 31415 1 0\n   \
                     1: 0100007F:2B68 0100007F:9999 01 00000000:00000000 00:00000000 00000000   998        0 27182 1 0\n";
        assert_eq!(listeners(table, 11112), ["31415"]);
        assert!(listeners(table, 104).is_empty());
    }

    #[test]
    fn this_process_is_found_by_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!is_free(address));
        let user = user(address).expect("this process listens");
        assert!(user.ends_with(&format!("(process {})", std::process::id())), "{user}");
    }
}
