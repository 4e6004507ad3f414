//! Send buffers: what lies in one has not arrived. A peer that reads from it goes forward although the proxy writes nothing, and a peer that has stopped is noticed
//! although the buffer took everything at once.

use super::*;

/// More than any body here.
const BUFFER_BYTES: usize = 1 << 20;

/// An endpoint that reads `taken` of a body of 100 KiB at 4 KiB a second, out of a buffer that holds all of it, and responds `then` later if that was all.
fn slow_endpoint(net: &Net, taken: usize, then: Duration) {
    net.buffers(BUFFER_BYTES);
    net.endpoint(A, move |_, mut peer| async move {
        peer.head().await;
        for _ in 0..taken / 4096 {
            pass(seconds(1)).await;
            peer.take(4096).await;
        }
        if taken < 100 * 1024 {
            std::future::pending::<()>().await;
        }
        pass(then).await;
        peer.say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    });
}

/// Posts 100 KiB; the status, its reason, and after how long it came.
async fn upload(bench: &Bench) -> (u16, String, Duration) {
    let started = clock::now();
    let seen = bench.post("/", &"x".repeat(100 * 1024)).await;
    (seen.status, seen.body, clock::now() - started)
}

#[test]
fn an_endpoint_that_reads_steadily_from_the_buffer_is_waited_for() {
    paused(async {
        let net = Net::default();
        slow_endpoint(&net, 100 * 1024, seconds(9));
        let bench = Bench::new(&net, ONE).await;
        // As many as would open a breaker. Each takes 25 s to be read and 9 s to be answered, where an attempt has 10 s and a request 30 s.
        for _ in 0..4 {
            let (status, reason, after) = upload(&bench).await;
            assert_eq!(status, 200, "{reason} after {after:?}");
        }
        assert_eq!(bench.metric("outrigger_attempts_total", &["attempt_timeout"]), 0.0);
        assert_eq!(bench.metric("outrigger_breaker_transitions_total", &[]), 0.0);
    });
}

#[test]
fn an_endpoint_that_stops_reading_from_the_buffer_has_its_time_from_the_last_byte() {
    paused(async {
        for taken in [0, 60] {
            let net = Net::default();
            slow_endpoint(&net, taken * 1024, Duration::ZERO);
            let bench = Bench::new(&net, ONE).await;
            let (status, reason, after) = upload(&bench).await;
            assert!(status == 504 && reason.contains("attempt_timeout"), "{status} {reason}");
            let read_for = seconds(taken as u64 / 4);
            assert!((read_for + seconds(9)..=read_for + seconds(11)).contains(&after), "{taken}: {after:?}");
            assert_eq!(bench.metric("outrigger_attempts_total", &["attempt_timeout"]), 1.0);
        }
    });
}

#[test]
fn an_endpoint_that_has_read_all_from_the_buffer_has_its_time_from_the_last_byte() {
    paused(async {
        let net = Net::default();
        slow_endpoint(&net, 100 * 1024, seconds(60));
        let bench = Bench::new(&net, ONE).await;
        let (status, reason, after) = upload(&bench).await;
        assert!(status == 504 && reason.contains("attempt_timeout"), "{status} {reason}");
        assert!((seconds(34)..=seconds(36)).contains(&after), "{after:?}");
    });
}

#[test]
fn a_whole_upload_has_its_time_limit_though_it_lies_in_the_buffer() {
    paused(async {
        let net = Net::default();
        slow_endpoint(&net, 100 * 1024, Duration::ZERO);
        let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.timeouts]\nupload = \"15s\"\n")).await;
        let (status, reason, after) = upload(&bench).await;
        assert!(status == 504 && reason.contains("request_timeout"), "{status} {reason}");
        assert!((seconds(15)..=seconds(16)).contains(&after), "{after:?}");
    });
}

#[test]
fn no_request_waits_behind_a_body_that_the_endpoint_has_answered_and_not_read() {
    paused(async {
        let net = Net::default();
        net.buffers(BUFFER_BYTES);
        net.endpoint(A, |n, mut peer| async move {
            if n > 0 {
                peer.request().await;
            } else {
                peer.head().await;
                // By now all of the body is in the buffer.
                pass(seconds(1)).await;
            }
            peer.say(OK).await;
            std::future::pending::<()>().await;
        });
        let bench = Bench::new(&net, ONE).await;
        assert_eq!(upload(&bench).await.0, 200);
        let started = clock::now();
        assert_eq!((bench.get("/").await.status, clock::now() - started, net.dialed()), (200, Duration::ZERO, 2));
    });
}

/// Reads `pieces` times `bytes` from the connection, with a second before each, and then all that comes until the connection ends or stands still for 100 s.
async fn read_slowly(client: &mut net::Client, pieces: usize, bytes: usize) -> usize {
    let mut read = 0;
    for _ in 0..pieces {
        pass(seconds(1)).await;
        read += client.take(bytes).await;
    }
    while let Some(n @ 1..) = clock::until(clock::now() + seconds(100), client.take(BUFFER_BYTES)).await {
        read += n;
    }
    read
}

/// A bench whose endpoint responds with `bytes`, and a client that has asked for them over a pipe that holds `buffer` bytes.
async fn download(bytes: usize, buffer: usize) -> (Bench, net::Client) {
    let net = Net::default();
    net.responds(A, &[&format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n{}", "x".repeat(bytes))]);
    let bench = Bench::new(&net, &format!("listen.idle_timeout = \"40s\"\n{ONE}")).await;
    let mut client = bench.connect_over(buffer);
    client.say("GET / HTTP/1.1\r\nhost: backend\r\n\r\n").await;
    (bench, client)
}

#[test]
fn a_reader_that_reads_steadily_from_the_buffer_gets_the_whole_response() {
    paused(async {
        // Room for more is told after 43 s each time, and a body may stand still for 30 s. The last 1 KiB is too little to be awaited as a body.
        for bytes in [300 * 1024, 129 * 1024] {
            let (bench, mut client) = download(bytes, 128 * 1024).await;
            let read = read_slowly(&mut client, 110, 1024).await;
            assert!(read > bytes, "{read} of {bytes}");
            assert_eq!(bench.metric("outrigger_connections_closed_total", &["body_idle_timeout"]), 0.0, "{bytes}");
        }
    });
}

#[test]
fn a_reader_that_stops_reading_from_the_buffer_is_ended_in_time() {
    paused(async {
        let (bench, mut client) = download(300 * 1024, 128 * 1024).await;
        for _ in 0..35 {
            pass(seconds(1)).await;
            client.take(1024).await;
        }
        pass(seconds(29)).await;
        assert_eq!(bench.shared.connections(), 1, "it has its time from the last byte that it read");
        pass(seconds(3)).await;
        assert_eq!(bench.shared.connections(), 0);
        let ended = ["reason=\"body_idle_timeout\"", "side=\"downstream\""];
        assert_eq!(bench.metric("outrigger_connections_closed_total", &ended), 1.0);
    });
}

#[test]
fn a_connection_is_not_idle_while_its_response_is_read_from_the_buffer() {
    paused(async {
        let (bench, mut client) = download(100 * 1024, BUFFER_BYTES).await;
        for _ in 0..100 {
            pass(seconds(1)).await;
            client.take(1024).await;
            assert_eq!(bench.shared.connections(), 1);
        }
        client.take(1024).await;
        pass(seconds(42)).await;
        assert_eq!(bench.shared.connections(), 0);
        assert_eq!(bench.metric("outrigger_connections_closed_total", &["reason=\"idle\""]), 1.0);
    });
}

#[test]
fn a_connection_is_not_closed_under_a_client_that_still_reads_its_last_response() {
    paused(async {
        for stops_after in [100, 20] {
            let net = Net::default();
            net.responds(A, &[&format!("HTTP/1.1 200 OK\r\ncontent-length: 102400\r\n\r\n{}", "x".repeat(102_400))]);
            let bench = Bench::new(&net, &format!("listen.requests_max = 1\n{ONE}")).await;
            let mut client = bench.connect_over(BUFFER_BYTES);
            // The second request is what the close would answer with a reset.
            client.say(&"GET / HTTP/1.1\r\nhost: backend\r\n\r\n".repeat(2)).await;
            for _ in 0..stops_after {
                client.take(1024).await;
                pass(seconds(1)).await;
                assert_eq!(bench.shared.connections(), 1);
            }
            client.take(if stops_after == 100 { 1024 } else { 0 }).await;
            pass(seconds(if stops_after == 100 { 1 } else { 11 })).await;
            assert_eq!(bench.shared.connections(), 0, "{stops_after}");
        }
    });
}

#[test]
fn a_tunnel_is_not_idle_while_either_side_reads_from_the_buffer() {
    paused(async {
        for (reads_up, reads_down) in [(true, false), (false, true), (false, false)] {
            let net = Net::default();
            net.buffers(BUFFER_BYTES);
            net.endpoint(A, move |_, mut peer| async move {
                peer.head().await;
                peer.say("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
                peer.say(&"d".repeat(100 * 1024)).await;
                while reads_up && peer.take(1024).await > 0 {
                    pass(seconds(1)).await;
                }
                peer.closed().await;
            });
            let keys = "upgrade = [\"x\"]\ntimeouts.tunnel_idle = \"5s\"\n[upstreams.backend.endpoint_";
            let bench = Bench::new(&net, &ONE.replace("[upstreams.backend.endpoint_", keys)).await;
            let mut client = bench.connect_over(BUFFER_BYTES);
            client.say("GET / HTTP/1.1\r\nhost: backend\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
            client.take(1024).await;
            client.say(&"u".repeat(100 * 1024)).await;
            for _ in 0..60 {
                pass(seconds(1)).await;
                if reads_down {
                    client.take(1024).await;
                }
            }
            let goes_on = usize::from(reads_up || reads_down);
            assert_eq!(bench.shared.connections(), goes_on, "up {reads_up}, down {reads_down}");
        }
    });
}

/// An endpoint that responds a second after the head and reads `taken` of a body of 100 KiB at 4 KiB a second, out of a buffer that holds all of it. Then it leaves if
/// `leaves`.
fn early_endpoint(net: &Net, taken: usize, leaves: bool) {
    net.buffers(BUFFER_BYTES);
    net.endpoint(A, move |_, mut peer| async move {
        peer.head().await;
        pass(seconds(1)).await;
        peer.say(OK).await;
        let mut read = 0;
        while read < taken {
            pass(seconds(1)).await;
            read += peer.take(4096).await;
        }
        if !leaves {
            std::future::pending::<()>().await;
        }
    });
}

#[test]
fn a_request_is_in_flight_until_the_endpoint_has_read_it_though_its_response_has_ended_and_the_buffer_has_the_rest() {
    // All of the body at 4 KiB a second; nothing more after 40 KiB; the connection breaks then; the limit of the upload and `idle_body`.
    for (taken, leaves, limits, expected) in [
        (100, false, "idle_body = \"5s\"", 20..=30),
        (40, false, "idle_body = \"5s\"", 14..=18),
        (40, true, "idle_body = \"5s\"", 8..=12),
        (100, false, "idle_body = \"5s\"\nupload = \"10s\"", 13..=16),
    ] {
        paused(async move {
            let net = Net::default();
            early_endpoint(&net, taken * 1024, leaves);
            let bench = Bench::new(&net, &format!("{ONE}\n[upstreams.backend.timeouts]\n{limits}\n")).await;
            let mut client = bench.connect();
            let head = "POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 102400\r\n\r\n";
            client.say(&(head.to_owned() + &"x".repeat(100 * 1024))).await;
            assert_eq!(client.response().await.map(|seen| seen.status), Some(200));
            let started = clock::now();
            bench.order(crate::worker::Order::Finish);
            while bench.shared.requests().1 == 1 && clock::now() - started < seconds(100) {
                assert_eq!(bench.under_way(), (1, 1));
                pass(seconds(1)).await;
            }
            let after = (clock::now() - started).as_secs();
            assert!(expected.contains(&after), "{taken} {leaves} {limits}: {after} s");
            let ended = ["reason=\"body_idle_timeout\"", "side=\"upstream\""];
            pass(seconds(1)).await;
            let is_whole = taken == 100 && !limits.contains("upload");
            let is_cut = f64::from(u8::from(!is_whole && !leaves));
            assert_eq!(bench.metric("outrigger_connections_closed_total", &ended), is_cut, "{taken} {leaves}");
            assert_eq!((bench.under_way(), bench.endpoint_failures()), ((0, 0), 0));
        });
    }
}

#[test]
fn a_drain_does_not_close_under_a_client_that_still_reads_its_last_response_though_it_has_sent_another_request() {
    paused(async {
        let net = Net::default();
        net.responds(A, &[&format!("HTTP/1.1 200 OK\r\ncontent-length: 102400\r\n\r\n{}", "x".repeat(102_400))]);
        let bench = Bench::new(&net, ONE).await;
        let mut client = bench.connect_over(BUFFER_BYTES);
        bench.shared.begin_drain();
        client.say(&"GET / HTTP/1.1\r\nhost: backend\r\n\r\n".repeat(2)).await;
        for _ in 0..100 {
            client.take(1024).await;
            pass(seconds(1)).await;
            assert_eq!(bench.shared.connections(), 1);
        }
        client.take(1024).await;
        pass(seconds(1)).await;
        assert_eq!(bench.shared.connections(), 0);
    });
}
