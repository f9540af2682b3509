//! The shared libraries of this process, which a successor will load too, and what may be read without opening it.
#![expect(unsafe_code, reason = "dl_iterate_phdr calls back with C strings, access has no safe form")]

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Paths of all libraries that are mapped, the loader included. None in a program that is linked statically.
#[must_use]
pub fn paths() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    // SAFETY: the callback gets the pointer to `paths`, which outlives the call, and is not kept.
    unsafe { libc::dl_iterate_phdr(Some(note), (&raw mut paths).cast()) };
    paths
}

unsafe extern "C" fn note(
    info: *mut libc::dl_phdr_info,
    _: libc::size_t,
    paths: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the name is null or a C string for the time of this call; `paths` is what `paths()` passed.
    unsafe {
        let name = (*info).dlpi_name;
        if !name.is_null() {
            let path = Path::new(OsStr::from_bytes(CStr::from_ptr(name).to_bytes()));
            // The program itself has an empty name, and what the kernel maps has one that is no path.
            if path.is_absolute() {
                (*paths.cast::<Vec<PathBuf>>()).push(path.to_owned());
            }
        }
    }
    0
}

/// Whether owner, group and mode let us read a file, without opening it: landlock is not asked.
#[must_use]
pub fn may_read(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: a C string that lives until the call returns.
    unsafe { libc::access(path.as_ptr(), libc::R_OK) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_is_among_the_libraries() {
        let paths = paths();
        assert!(paths.iter().all(|path| path.exists()), "{paths:?}");
        if cfg!(target_env = "gnu") {
            assert!(paths.iter().any(|path| path.to_string_lossy().contains("ld-")), "{paths:?}");
        }
        assert!(may_read(Path::new("/")) && !may_read(Path::new("/no such file")));
    }
}
