//! The smallest program that says hello: a static ELF file made by hand, so that the sample images run without
//! anything in them being copied from elsewhere.

/// Where the file is mapped, as linkers do by default.
const BASE_ADDRESS: u64 = 0x40_0000;
const ELF_HEADER_BYTES: u16 = 64;
const PROGRAM_HEADER_BYTES: u16 = 56;
const PAGE_BYTES: u64 = 0x1_0000;

/// A processor the sample images are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    Amd64,
    Arm64,
}

impl Machine {
    pub(crate) const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// Its name in a platform.
    pub(crate) fn architecture(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// `e_machine` of the ELF specification.
    fn elf_number(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }

    /// write(1, message, length); exit(0). The message follows the code.
    fn code(self, length: u16) -> Vec<u8> {
        match self {
            Self::Amd64 => amd64_code(length),
            Self::Arm64 => arm64_code(length),
        }
    }
}

/// A Linux program that prints `message` and ends.
pub(crate) fn hello(machine: Machine, message: &str) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let code = machine.code(length);
    let headers = u64::from(ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES);
    let size = headers + code.len() as u64 + u64::from(length);
    let mut file = elf_header(machine, BASE_ADDRESS + headers);
    file.extend(program_header(size));
    file.extend(code);
    file.extend(&message.as_bytes()[..usize::from(length)]);
    file
}

fn elf_header(machine: Machine, entry: u64) -> Vec<u8> {
    // 64 bit, little endian, version 1, System V; padded to 16 bytes.
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    header.extend(2_u16.to_le_bytes()); // executable
    header.extend(machine.elf_number().to_le_bytes());
    header.extend(1_u32.to_le_bytes()); // version
    header.extend(entry.to_le_bytes());
    header.extend(u64::from(ELF_HEADER_BYTES).to_le_bytes()); // program headers
    header.extend(0_u64.to_le_bytes()); // no section headers
    header.extend(0_u32.to_le_bytes()); // no flags
    for half in [ELF_HEADER_BYTES, PROGRAM_HEADER_BYTES, 1, 0, 0, 0] {
        header.extend(half.to_le_bytes());
    }
    header
}

fn program_header(size: u64) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(1_u32.to_le_bytes()); // loaded
    header.extend(5_u32.to_le_bytes()); // readable and executable
    for word in [0, BASE_ADDRESS, BASE_ADDRESS, size, size, PAGE_BYTES] {
        header.extend(word.to_le_bytes());
    }
    header
}

fn amd64_code(length: u16) -> Vec<u8> {
    let mut code = Vec::new();
    code.extend(b"\xb8\x01\0\0\0"); // mov eax, 1
    code.extend(b"\xbf\x01\0\0\0"); // mov edi, 1
    code.extend(b"\x48\x8d\x35\x10\0\0\0"); // lea rsi, [rip + 16]: what follows the code
    code.push(0xba); // mov edx, length
    code.extend(u32::from(length).to_le_bytes());
    code.extend(b"\x0f\x05"); // syscall
    code.extend(b"\xb8\x3c\0\0\0"); // mov eax, 60
    code.extend(b"\x31\xff"); // xor edi, edi
    code.extend(b"\x0f\x05"); // syscall
    code
}

fn arm64_code(length: u16) -> Vec<u8> {
    let words = [
        0xd280_0020,                            // mov x0, #1
        0x1000_00e1,                            // adr x1, . + 28: what follows the code
        0xd280_0002 | (u32::from(length) << 5), // mov x2, #length
        0xd280_0808,                            // mov x8, #64
        0xd400_0001,                            // svc #0
        0xd280_0000,                            // mov x0, #0
        0xd280_0ba8,                            // mov x8, #93
        0xd400_0001,                            // svc #0
    ];
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn program_of_this_machine_says_its_message() {
        use std::os::unix::fs::PermissionsExt;

        let machine = if cfg!(target_arch = "x86_64") {
            Machine::Amd64
        } else {
            Machine::Arm64
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hello");
        std::fs::write(&path, hello(machine, "hello from kuik\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        // Another test's child may hold the file open for writing until it has become its own program.
        let output = std::iter::repeat_with(|| std::process::Command::new(&path).output())
            .find(|output| !matches!(output, Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy))
            .unwrap()
            .unwrap();
        assert!(output.status.success(), "{}", output.status);
        assert_eq!(output.stdout, b"hello from kuik\n");
    }

    #[test]
    fn message_follows_the_code_where_the_code_looks_for_it() {
        for machine in Machine::ALL {
            let file = hello(machine, "hi");
            let headers = usize::from(ELF_HEADER_BYTES + PROGRAM_HEADER_BYTES);
            let code = machine.code(2).len();
            assert_eq!(file[headers + code..], *b"hi");
            // Relative to the instruction that loads its address: 17 + 16, and 4 + 28.
            let expected = if machine == Machine::Amd64 { 33 } else { 32 };
            assert_eq!(code, expected);
        }
    }
}
