//! The arguments on QEMU's command line: words of the form `key=value`, read by semihosting.

use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::str::FromStr;

use cortex_m_semihosting::{nr, syscall1};
use embassy_net::{Ipv4Cidr, StaticConfigV4};
use firmware_example::Plan;
#[cfg(feature = "session")]
use framing_uplink::Device;

/// Length of the longest command line, in bytes.
pub const LINE_MAX: usize = 256;

/// The arguments, with defaults for those that are not given.
pub struct Arguments {
    /// `telemetry=ADDRESS:PORT`: the destination of the samples.
    pub telemetry: SocketAddrV4,
    /// `logs=ADDRESS:PORT`: the destination of the log, if any.
    #[cfg(feature = "defmt")]
    pub logs: Option<SocketAddrV4>,
    /// `address=ADDRESS/BITS`, `gateway=ADDRESS`: a static address instead of DHCP.
    pub address: Option<Ipv4Cidr>,
    /// The gateway of the static address.
    pub gateway: Option<Ipv4Addr>,
    /// `device=ID`: send over an acknowledged session of this device, and not a plain series.
    #[cfg(feature = "session")]
    pub device: Option<Device<'static>>,
    /// `period_ms=N`, `samples=N`, `stop_ms=N`, `answer_ms=N`.
    pub plan: Plan,
    /// `panic=now`: panic at the start, to show the output.
    pub panic: bool,
}

/// Why a command line was refused.
pub enum ArgumentError {
    /// It is missing, or too long.
    Unreadable,
    /// The key is unknown, or its value is invalid.
    Bad(&'static str),
}

impl Arguments {
    /// Reads and parses the command line.
    pub fn read(line: &'static mut [u8; LINE_MAX]) -> Result<Self, ArgumentError> {
        let line = command_line(line).ok_or(ArgumentError::Unreadable)?;
        let mut arguments = Self {
            telemetry: SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 2), 1060),
            #[cfg(feature = "defmt")]
            logs: None,
            address: None,
            gateway: None,
            #[cfg(feature = "session")]
            device: Device::new("mps2-an386")
                .ok()
                .filter(|_| cfg!(not(feature = "plain"))),
            plan: Plan::default(),
            panic: false,
        };
        // The first word is the name of the program.
        for word in line.split_ascii_whitespace().skip(1) {
            arguments.take(word).ok_or(ArgumentError::Bad(word))?;
        }
        Ok(arguments)
    }

    /// The configuration of embassy-net: static address or DHCP.
    pub fn network(&self) -> embassy_net::Config {
        match self.address {
            None => embassy_net::Config::dhcpv4(Default::default()),
            Some(address) => embassy_net::Config::ipv4_static(StaticConfigV4 {
                address,
                gateway: self.gateway,
                dns_servers: Default::default(),
            }),
        }
    }

    fn take(&mut self, word: &'static str) -> Option<()> {
        let (key, value) = word.split_once('=')?;
        match key {
            "telemetry" => self.telemetry = parse(value)?,
            #[cfg(feature = "defmt")]
            "logs" => self.logs = Some(parse(value)?),
            "address" => {
                let (address, bits) = value.split_once('/')?;
                let bits = parse(bits).filter(|&bits| bits <= 32)?;
                self.address = Some(Ipv4Cidr::new(parse(address)?, bits));
            }
            "gateway" => self.gateway = Some(parse(value)?),
            #[cfg(feature = "session")]
            "device" => self.device = Some(Device::new(value).ok()?),
            "period_ms" => self.plan.period_ms = parse(value)?,
            "samples" => self.plan.samples = Some(parse(value)?),
            "answer_ms" => self.plan.answer_ms = parse(value)?,
            "stop_ms" => self.plan.stop_ms = parse(value)?,
            "panic" if value == "now" => self.panic = true,
            _ => return None,
        }
        Some(())
    }
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => write!(f, "the command line is over {LINE_MAX} bytes, or not text"),
            Self::Bad(word) => write!(f, "argument `{word}` is not understood"),
        }
    }
}

/// Nanoseconds since QEMU was started. It differs from run to run, which is enough to make boards differ.
pub fn seed() -> u64 {
    let mut ns = [0_u32; 2];
    // SAFETY: SYS_ELAPSED writes two words to where its argument points.
    unsafe { syscall1(nr::ELAPSED, ns.as_mut_ptr().expose_provenance()) };
    let [low, high] = ns;
    u64::from(high) << 32 | u64::from(low)
}

fn parse<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn command_line(line: &'static mut [u8; LINE_MAX]) -> Option<&'static str> {
    let mut block = [line.as_mut_ptr().expose_provenance(), LINE_MAX];
    // SAFETY: SYS_GET_CMDLINE writes at most this many bytes there, and their number into the block.
    let failed = unsafe { syscall1(nr::GET_CMDLINE, block.as_mut_ptr().expose_provenance()) } != 0;
    let [_, len] = block;
    if failed {
        return None;
    }
    core::str::from_utf8(line.get(..len)?).ok()
}
