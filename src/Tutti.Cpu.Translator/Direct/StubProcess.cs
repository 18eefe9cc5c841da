using Tutti.Host;

namespace Tutti.Cpu.Translator;

/// <summary>
/// A process that runs user code of one guest address space untranslated. It has no page but those that it is given, and those of
/// <see cref="StubImage"/>; belongs to the thread that has made it.
/// </summary>
internal sealed unsafe class StubProcess : IDisposable
{
    private const int ProtRead = 1;
    private const int ProtWrite = 2;
    private const int ProtExecute = 4;
    private const int MapShared = 1;
    private const int MapFixed = 0x10;

    /// <summary>Where a stub may lie: what kernels give to programs of their own accord lies below or above.</summary>
    private const ulong LowestPlace = 1UL << 45;

    private const ulong HighestPlace = 5UL << 44;

    private readonly HostMapping _image;
    private readonly TracedProcess _process;
    private readonly TracedRegisters _first;
    private int _count;

    /// <param name="memory">The descriptor of guest RAM.</param>
    /// <exception cref="HostException">The host refuses.</exception>
    public StubProcess(int memory)
    {
        Address = (LowestPlace + (ulong)Random.Shared.NextInt64((long)(HighestPlace - LowestPlace))) & ~(StubImage.ReservedSize - 1);
        _image = new HostMapping(StubImage.CodeSize + StubImage.ListSize, shared: true);
        try
        {
            // SAFETY: the mapping has these bytes.
            StubImage.Write(new Span<byte>((void*)_image.Address, StubImage.CodeSize + StubImage.ListSize), Address);
            _process = new TracedProcess(_image.File!, memory);
            _process.GetRegisters(out _first);
            foreach (long[] request in StubImage.Preparation(Address))
            {
                Add(request);
            }

            if (!TryCarryOut())
            {
                throw new HostException("preparation of a process for direct execution", (int)-(long)LastResult);
            }
        }
        catch
        {
            _process?.Dispose();
            _image.Dispose();
            throw;
        }
    }

    /// <summary>The first of <see cref="StubImage.ReservedSize"/> bytes that are not the guest's.</summary>
    public ulong Address { get; }

    public TracedProcess Process => _process;

    /// <summary>Selectors that user code has on the host.</summary>
    public TracedRegisters First => _first;

    /// <summary>RAX after the last list that was not carried out to its end.</summary>
    public ulong LastResult { get; private set; }

    /// <summary>Lists carried out.</summary>
    public long Lists { get; private set; }

    /// <summary>Whether guest pages can lie at these addresses.</summary>
    public bool Covers(ulong linear, long length) =>
        linear >= 0x1_0000 && linear + (ulong)length <= StubImage.AddressEnd && (linear + (ulong)length <= Address || linear >= Address + StubImage.ReservedSize);

    public bool TryMap(ulong linear, long length, long fileOffset, PageRights rights)
    {
        int protection = ProtRead | ((rights & PageRights.Write) != 0 ? ProtWrite : 0) | ((rights & PageRights.Execute) != 0 ? ProtExecute : 0);
        return Covers(linear, length) && TryAdd(StubImage.CallMmap, (long)linear, length, protection, MapShared | MapFixed, TracedProcess.KeptDescriptor, fileOffset);
    }

    public bool TryProtect(ulong linear, long length) => Covers(linear, length) && TryAdd(StubImage.CallMprotect, (long)linear, length, ProtRead);

    public bool TryUnmap(ulong linear, long length) => Covers(linear, length) && TryAdd(StubImage.CallMunmap, (long)linear, length);

    /// <summary>Takes all pages away, and forgets what was asked for and is not carried out yet.</summary>
    public void UnmapAll()
    {
        _count = 0;
        Add([StubImage.CallMunmap, 0, (long)Address]);
        long end = (long)(Address + StubImage.ReservedSize);
        Add([StubImage.CallMunmap, end, (long)StubImage.AddressEnd - end]);
    }

    /// <summary>Adds a request of any kind: for tests.</summary>
    public bool TryAdd(params ReadOnlySpan<long> request)
    {
        if (_count == StubImage.MaxRequests && !TryCarryOut())
        {
            return false;
        }

        Add(request);
        return true;
    }

    /// <summary>Has everything carried out that was asked for; false where the host has refused one, after which nobody knows what is mapped.</summary>
    /// <exception cref="HostException">The process is no more.</exception>
    public bool TryCarryOut()
    {
        if (_count == 0)
        {
            return true;
        }

        Lists++;
        *RequestAt(_count) = -1;
        ulong list = StubImage.ListAddress(Address);
        TracedRegisters registers = _first with { Rip = StubImage.RunAddress(Address), Rbx = list, CallRax = ulong.MaxValue, Rsp = 0, FsBase = 0, GsBase = 0, Flags = 0x202 };
        ulong end = list + ((ulong)_count * StubImage.RequestSize);
        _count = 0;
        _process.SetRegisters(registers);
        TraceStop stop;
        do
        {
            // A request for attention that came too late for what ran then, or somebody else's signal.
            stop = _process.Run();
        }
        while (stop.Kind == TraceStopKind.Event || (stop.Kind == TraceStopKind.Signal && stop.Signal is not (5 or 11 or 7 or 4 or 8 or 31)));
        if (stop.Kind == TraceStopKind.Ended)
        {
            throw new HostException("direct execution: its process has ended; wait", 10);
        }

        _process.GetRegisters(out registers);
        LastResult = registers.Rax;
        return registers.Rbx == end;
    }

    public void Dispose()
    {
        _process.Dispose();
        _image.Dispose();
    }

    private void Add(ReadOnlySpan<long> request)
    {
        long* at = RequestAt(_count);
        for (int i = 0; i < StubImage.RequestSize / 8; i++)
        {
            at[i] = i < request.Length ? request[i] : 0;
        }

        _count++;
    }

    // SAFETY: there is room for MaxRequests and one more.
    private long* RequestAt(int number) => (long*)(_image.Address + StubImage.CodeSize + (number * StubImage.RequestSize));
}
