//! Numeric kernels with wider vectors where the processor has them.

/// Compiles a function twice, plain and with AVX2, and picks at run time. Nothing is fused and no order changes, so the bits
/// are the same on any processor.
macro_rules! twice {
    ($(#[$about:meta])* $name:ident => $plain:path, ($($argument:ident: $kind:ty),*)) => {
        $(#[$about])*
        fn $name($($argument: $kind),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($argument: $kind),*) {
                    $plain($($argument),*);
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2, and the body is safe code.
                    return unsafe { wide($($argument),*) };
                }
            }
            $plain($($argument),*);
        }
    };
}

pub(super) use twice;
