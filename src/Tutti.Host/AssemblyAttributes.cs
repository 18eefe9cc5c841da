using System.Runtime.CompilerServices;

// Every signature in LibC is blittable; this makes the compiler refuse one that is not.
[assembly: DisableRuntimeMarshalling]
[assembly: InternalsVisibleTo("Tutti.Host.Tests")]
[assembly: InternalsVisibleTo("Tutti.Cli.Tests")]
[assembly: InternalsVisibleTo("Tutti.Cpu.Kvm.Tests")]
