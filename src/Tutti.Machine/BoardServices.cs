using Tutti.Cpu;
using Tutti.Devices;
using Tutti.Memory;

namespace Tutti.Machine;

/// <summary>What a board has for the functions of its PCI bus, until it ends.</summary>
/// <param name="Memory">The guest's RAM.</param>
/// <param name="Clock">Guest time.</param>
/// <param name="Doorbells">Ties guest writes to doorbells.</param>
/// <param name="ChipsetLock">
/// Held around every access of a vCPU to a device; whoever touches a function's registers from another thread takes it, too.
/// </param>
public sealed record BoardServices(GuestMemory Memory, IGuestClock Clock, IDoorbellMap Doorbells, Lock ChipsetLock);
