using System.Collections.Concurrent;
using System.Globalization;
using Tutti.Cpu;

namespace Tutti.Machine;

/// <summary>Counts and traces what vCPUs reach outside RAM on its way to the board. In between only where somebody asked for it.</summary>
internal sealed class ObservedIo(ICpuIo inner, IEngineTrace? trace) : ICpuIo
{
    /// <summary>Ports that get a row of their own, those most used; a guest can use 65536.</summary>
    private const int MaxRows = 24;

    private readonly ConcurrentDictionary<ushort, long> _ports = new();
    private readonly TraceKinds _traced = trace?.Kinds ?? TraceKinds.None;
    private long _mmioReads;
    private long _mmioWrites;

    public void ReadPort(ushort port, Span<byte> data)
    {
        inner.ReadPort(port, data);
        CountPort(port, "in", data);
    }

    public void WritePort(ushort port, ReadOnlySpan<byte> data)
    {
        CountPort(port, "out", data);
        inner.WritePort(port, data);
    }

    public void ReadMmio(ulong address, Span<byte> data)
    {
        inner.ReadMmio(address, data);
        _ = Interlocked.Increment(ref _mmioReads);
        TellMmio(address, "read", data);
    }

    public void WriteMmio(ulong address, ReadOnlySpan<byte> data)
    {
        _ = Interlocked.Increment(ref _mmioWrites);
        TellMmio(address, "write", data);
        inner.WriteMmio(address, data);
    }

    internal IEnumerable<EngineCounter> ReadCounters()
    {
        KeyValuePair<ushort, long>[] ports = [.. _ports.OrderByDescending(row => row.Value).ThenBy(row => row.Key)];
        long others = ports.Skip(MaxRows).Sum(row => row.Value);
        return
        [
            .. ports.Take(MaxRows).Select(row => new EngineCounter("ports", string.Create(CultureInfo.InvariantCulture, $"0x{row.Key:x3}"), row.Value)),
            .. others == 0 ? Array.Empty<EngineCounter>() : [new("ports", "others", others)],
            new("addresses of devices", "reads", _mmioReads),
            new("addresses of devices", "writes", _mmioWrites),
        ];
    }

    private void CountPort(ushort port, string direction, ReadOnlySpan<byte> data)
    {
        _ = _ports.AddOrUpdate(port, 1, static (_, count) => count + 1);
        if ((_traced & TraceKinds.Ports) != 0)
        {
            trace!.Write(TraceKinds.Ports, string.Create(CultureInfo.InvariantCulture, $"{direction} {port:x4} {Hex(data)}"));
        }
    }

    private void TellMmio(ulong address, string direction, ReadOnlySpan<byte> data)
    {
        if ((_traced & TraceKinds.Mmio) != 0)
        {
            trace!.Write(TraceKinds.Mmio, string.Create(CultureInfo.InvariantCulture, $"{direction} {address:x} {Hex(data)}"));
        }
    }

    /// <summary>As a number: the last byte first.</summary>
    private static string Hex(ReadOnlySpan<byte> data)
    {
        Span<byte> reversed = stackalloc byte[8];
        reversed = reversed[..Math.Min(data.Length, 8)];
        data[..reversed.Length].CopyTo(reversed);
        reversed.Reverse();
        return Convert.ToHexStringLower(reversed);
    }
}
